import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dump } from "js-yaml";
import { connect, Unreachable } from "../../sandbox/kubernetes/client";

const directory = mkdtempSync(join(tmpdir(), "aks-acr-client-"));
const log = join(directory, "log");
const seen: (string | undefined)[] = [];
// An API server that answers everything, and remembers who asked.
const apiServer = createServer((request, response) => {
    seen.push(request.headers.authorization);
    response.end("{}");
});
beforeAll(() => once(apiServer.listen(0, "127.0.0.1"), "listening"));
afterAll(() => {
    apiServer.close().closeAllConnections();
    rmSync(directory, { recursive: true });
});
beforeEach(() => {
    seen.length = 0;
    writeFileSync(log, "");
});

const server = () => `http://127.0.0.1:${(apiServer.address() as AddressInfo).port}`;
const kubeconfig = (user: object) => ({
    "current-context": "web",
    contexts: [{ name: "web", context: { cluster: "web", user: "alice" } }],
    clusters: [{ name: "web", cluster: { server: server() } }],
    users: [{ name: "alice", user }],
});

/** A command that notes that it ran, and prints its own name and what it was given as the token. */
function execOf(script: string, more: object = {}) {
    const command = join(directory, "login");
    writeFileSync(command, `#!/bin/sh\necho ran >> '${log}'\n${script}\n`, { mode: 0o700 });
    return { exec: { apiVersion: "client.authentication.k8s.io/v1beta1", command, ...more } };
}
const credential = (expires: string) =>
    `echo '{"kind":"ExecCredential","status":{"token":"'"$1-$WAY"'","expirationTimestamp":"${expires}"}}'`;
const runs = () => readFileSync(log, "utf8").split("\n").length - 1;
const later = "2999-01-01T00:00:00Z";

test("a command of the kubeconfig gives the token, with its arguments and environment", async () => {
    const user = execOf(credential(later), { args: ["get-token"], env: [{ name: "WAY", value: "cli" }] });
    await connect(kubeconfig(user)).call("GET", "/api");
    expect(seen).toEqual(["Bearer get-token-cli"]);
});

test("a kubeconfig in YAML is read, with AKS's nulls", async () => {
    const user = execOf(credential(later), { args: null, env: null });
    await connect(dump(kubeconfig(user))).call("GET", "/api");
    expect(seen).toEqual(["Bearer -"]);
});

test("the command is told which version of the credential is wanted", async () => {
    await connect(
        kubeconfig(execOf(`printf %s "$KUBERNETES_EXEC_INFO" > '${log}.info'\n${credential(later)}`)),
    ).call("GET", "/api");
    expect(JSON.parse(readFileSync(`${log}.info`, "utf8"))).toEqual({
        apiVersion: "client.authentication.k8s.io/v1beta1",
        kind: "ExecCredential",
        spec: { interactive: false },
    });
});

test.each([
    ["once while its token is valid", later, 1],
    ["again when its token has expired", "2001-01-01T00:00:00Z", 2],
])("the command runs %s", async (_what, expires, expected) => {
    const client = connect(kubeconfig(execOf(credential(expires))));
    await client.call("GET", "/api");
    await client.call("GET", "/api");
    expect(runs()).toBe(expected);
});

test("a command that fails is an unreachable cluster, with what it said", async () => {
    const call = connect(kubeconfig(execOf("echo 'nobody is signed in' >&2; exit 1"))).call("GET", "/api");
    await expect(call).rejects.toThrow(Unreachable);
    await expect(call).rejects.toThrow(
        `${join(directory, "login")} gives no token for the cluster at ${server()}: nobody is signed in`,
    );
});

test("a command that fails is run again at the next call", async () => {
    const client = connect(kubeconfig(execOf("exit 1")));
    await expect(client.call("GET", "/api")).rejects.toThrow(Unreachable);
    await expect(client.call("GET", "/api")).rejects.toThrow(Unreachable);
    expect(runs()).toBe(2);
});

test("a command that is not there is named", async () => {
    const exec = { apiVersion: "client.authentication.k8s.io/v1beta1", command: "no-such-login" };
    await expect(connect(kubeconfig({ exec })).call("GET", "/api")).rejects.toThrow(
        `no-such-login gives no token for the cluster at ${server()}: spawn no-such-login ENOENT`,
    );
});
