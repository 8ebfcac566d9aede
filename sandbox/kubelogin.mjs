// kubelogin of the sandbox: kubectl and its like run `kubelogin get-token --login <way> --server-id <id>` for a token
// of Microsoft Entra. Prints an ExecCredential for who is signed in to the sandbox's Azure.
// Environment: AKS_ACR_CONTROL, the services process's socket; KUBERNETES_EXEC_INFO, which API version is wanted.
import { request } from "node:http";
import { text } from "node:stream/consumers";
import { parseArgs } from "node:util";

/** Ways to log in that ask nobody anything. */
const ways = ["azurecli", "azd", "workloadidentity", "spn", "msi", "azurepipelines"];

/** Sends a command to the services process. */
function control(command, ...args) {
    return new Promise((resolve, reject) => {
        const socketPath = process.env.AKS_ACR_CONTROL;
        const call = request({ socketPath, path: `/${command}`, method: "POST" }, async (response) => {
            const answer = JSON.parse(await text(response));
            if (response.statusCode === 200) resolve(answer);
            else reject(new Error(`gets no token: ${answer.error ?? response.statusCode}`));
        });
        call.on("error", () => reject(new Error("finds no sandbox that runs; `npm start` starts it.")));
        call.end(JSON.stringify({ args }));
    });
}

async function credential() {
    const string = { type: "string" };
    const { values, positionals } = parseArgs({
        // The rest of kubelogin's options (tenant, client, environment) changes nothing here.
        strict: false,
        allowPositionals: true,
        options: { login: { ...string, short: "l" }, "server-id": string },
    });
    if (positionals[0] !== "get-token") throw new Error("of the sandbox knows get-token only.");
    const login = values.login ?? process.env.AAD_LOGIN_METHOD ?? "devicecode";
    if (!ways.includes(login))
        throw new Error(`does not know --login ${login} here; use one of ${ways.join(", ")}.`);
    if (!values["server-id"]) throw new Error("needs --server-id.");
    const { token } = await control("token", values["server-id"]);
    const { exp } = JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
    const { apiVersion } = JSON.parse(process.env.KUBERNETES_EXEC_INFO || "{}");
    return {
        kind: "ExecCredential",
        apiVersion: apiVersion ?? "client.authentication.k8s.io/v1beta1",
        spec: { interactive: false },
        status: { token, expirationTimestamp: new Date(exp * 1000).toISOString() },
    };
}

try {
    console.log(JSON.stringify(await credential()));
} catch (error) {
    console.error(`kubelogin ${error.message}`);
    process.exitCode = 1;
}
