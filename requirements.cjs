// @ts-check
// What the program needs on the machine, in plain JavaScript: `npm run doctor` reads it before anything is installed.
const { existsSync } = require("node:fs");
const http = require("node:http");
const { homedir } = require("node:os");
const { join } = require("node:path");

/** What to do about each thing that is missing; the program and the doctor say the same. */
const advice = {
    node: "Install Node.js 20.9 or newer: https://nodejs.org/en/download.",
    pulumi: "Install the Pulumi CLI 3.259 or newer: https://www.pulumi.com/docs/install/.",
    docker: "The Docker daemon does not answer. Start it, or say in DOCKER_HOST (or `pulumi config set docker:host`) where it listens; an image that is in the registry already (aks-acr:image.ref) needs none.",
    azure: "There is no Azure login. Run `az login`, then `az account set --subscription <id>`; in CI set ARM_CLIENT_ID, ARM_TENANT_ID, ARM_SUBSCRIPTION_ID and ARM_USE_OIDC=true.",
    kubectl: "Install kubectl to use the cluster by hand: `az aks install-cli`.",
    kubelogin:
        "Install kubelogin, which clusters with Microsoft Entra are logged in to with: `az aks install-cli`.",
};

/**
 * Where docker's daemon may listen: the host that is configured, else docker's own and Docker Desktop's sockets.
 *
 * @param {string | undefined} host as in DOCKER_HOST.
 */
function dockerPlaces(host) {
    if (host) return [host];
    const sockets = ["/var/run/docker.sock", join(homedir(), ".docker", "run", "docker.sock")];
    return sockets.filter((socket) => existsSync(socket)).map((socket) => `unix://${socket}`);
}

/**
 * Whether a docker daemon answers. Of a host that is reached by ssh or a named pipe nothing is asked: docker finds out.
 *
 * @param {string | undefined} host as in DOCKER_HOST.
 * @returns {Promise<boolean>}
 */
async function dockerAnswers(host) {
    if (process.platform === "win32" && !host) return true;
    const answers = await Promise.all(dockerPlaces(host).map(pingDocker));
    return answers.some(Boolean);
}

/**
 * @param {string} place
 * @returns {Promise<boolean>}
 */
function pingDocker(place) {
    const { protocol, hostname, port, pathname } = new URL(place);
    if (protocol !== "unix:" && protocol !== "tcp:") return Promise.resolve(true);
    // By TCP with TLS the daemon wants a certificate; that somebody listens is enough here.
    const target = protocol === "unix:" ? { socketPath: pathname } : { host: hostname, port: port || 2375 };
    return new Promise((resolve) => {
        const request = http.get({ ...target, path: "/_ping", timeout: 5000 }, (answer) => {
            answer.resume();
            resolve(true);
        });
        request.on("timeout", () => request.destroy());
        request.on("error", (error) => resolve("code" in error && error.code === "HPE_INVALID_CONSTANT"));
    });
}

module.exports = { advice, dockerAnswers };
