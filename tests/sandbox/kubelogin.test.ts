import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { text } from "node:stream/consumers";
import { openIdentity } from "../../sandbox/identity";

const directory = mkdtempSync(join(tmpdir(), "aks-acr-kubelogin-"));
const identity = openIdentity(join(directory, "identity.key"));
const socket = join(directory, "control.sock");
let refusal = "";

// The services process, as far as kubelogin asks it.
const services = createServer(async (request, response) => {
    const [audience = ""] = JSON.parse(await text(request)).args;
    if (request.url !== "/token") return response.writeHead(404).end("{}");
    if (refusal) return response.writeHead(500).end(JSON.stringify({ error: refusal }));
    const token = identity.tokenFor({ objectId: "alice", tenantId: "tenant" }, audience);
    return response.end(JSON.stringify({ token }));
}).listen(socket);
afterAll(() => {
    services.close();
    rmSync(directory, { recursive: true });
});

async function kubelogin(args: string, environment: Record<string, string> = {}) {
    const script = resolve(__dirname, "../../sandbox/kubelogin.mjs");
    const env = { PATH: process.env.PATH, AKS_ACR_CONTROL: socket, ...environment };
    const child = spawn(process.execPath, [script, ...args.split(" ")], { env });
    const exit = new Promise((done) => child.on("exit", done));
    const [out, error] = await Promise.all([text(child.stdout), text(child.stderr)]);
    return { code: await exit, out, error };
}

const getToken =
    "get-token --server-id 6dae42f8 --tenant-id tenant --client-id app --environment AzurePublicCloud";

test.each(["azurecli", "azd", "workloadidentity", "spn", "msi", "azurepipelines"])(
    "--login %s gives a token of who is signed in, for the server that is asked for",
    async (login) => {
        const { code, out } = await kubelogin(`${getToken} --login ${login}`);
        const { status, ...credential } = JSON.parse(out);
        expect(code).toBe(0);
        expect(credential).toEqual({
            kind: "ExecCredential",
            apiVersion: "client.authentication.k8s.io/v1beta1",
            spec: { interactive: false },
        });
        expect(identity.verify(status.token)).toEqual({
            objectId: "alice",
            tenantId: "tenant",
            audience: "6dae42f8",
        });
        const seconds = (Date.parse(status.expirationTimestamp) - Date.now()) / 1000;
        expect(Math.abs(seconds - 3600)).toBeLessThan(60);
    },
);

test("the credential is of the version that kubectl asks for", async () => {
    const apiVersion = "client.authentication.k8s.io/v1";
    const info = JSON.stringify({ apiVersion, kind: "ExecCredential", spec: {} });
    const { out } = await kubelogin(`${getToken} -l msi`, { KUBERNETES_EXEC_INFO: info });
    expect(JSON.parse(out).apiVersion).toBe(apiVersion);
});

test("the way to log in can be in the environment, as kubelogin has it", async () => {
    expect((await kubelogin(getToken, { AAD_LOGIN_METHOD: "azurecli" })).code).toBe(0);
});

const unknownWay = (login: string) =>
    `kubelogin does not know --login ${login} here; use one of azurecli, azd, workloadidentity, spn, msi, azurepipelines.\n`;

test.each([
    // Its own default, which would wait for somebody to type the code.
    [getToken, unknownWay("devicecode")],
    [`${getToken} --login interactive`, unknownWay("interactive")],
    [`${getToken} --login ropc`, unknownWay("ropc")],
    ["get-token --login msi", "kubelogin needs --server-id.\n"],
    ["convert-kubeconfig", "kubelogin of the sandbox knows get-token only.\n"],
])("`%s` fails and says why", async (args, error) => {
    expect(await kubelogin(args)).toEqual({ code: 1, out: "", error });
});

test("what the sandbox's Azure refuses is passed on", async () => {
    refusal = "ERROR: Please run 'az login' to setup account.";
    const { code, error } = await kubelogin(`${getToken} --login azurecli`);
    refusal = "";
    expect([code, error]).toEqual([
        1,
        "kubelogin gets no token: ERROR: Please run 'az login' to setup account.\n",
    ]);
});

test("without a sandbox that runs it says how to start one", async () => {
    const { code, error } = await kubelogin(`${getToken} --login msi`, { AKS_ACR_CONTROL: `${socket}.gone` });
    expect([code, error]).toEqual([1, "kubelogin finds no sandbox that runs; `npm start` starts it.\n"]);
});
