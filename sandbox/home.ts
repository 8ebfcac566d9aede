import { createHash } from "node:crypto";
import { mkdirSync, realpathSync } from "node:fs";
import { join, resolve } from "node:path";

/** The checkout whose program the sandbox runs. */
export const checkout = realpathSync(resolve(__dirname, ".."));

/** Where this checkout's sandbox keeps its state and logs; ignored by git. Tests and benchmarks name another, beside it. */
export const home = join(checkout, process.env.AKS_ACR_SANDBOX ?? ".sandbox");

/** Marks everything of this sandbox on the machine: eight hex digits made from where the checkout is. */
export const id = createHash("sha256").update(home).digest("hex").slice(0, 8);

/** Sockets, in a short path because a socket's may have 107 characters at most; gone after `npm stop`. */
export const runDirectory = `/run/aks-acr/${id}`;

/** Files and directories of the sandbox, by what they hold. */
export const paths = {
    azure: join(home, "azure.json"),
    bin: join(home, "bin"),
    certificates: join(home, "certificates"),
    clusters: join(home, "clusters"),
    docker: join(home, "docker"),
    dockerConfiguration: join(home, "docker-config"),
    logs: join(home, "logs"),
    passphrase: join(home, "passphrase"),
    project: join(home, "project"),
    pulumi: join(home, "pulumi"),
    registries: join(home, "registries"),
    state: join(home, "state"),
    tools: join(home, "tools.json"),
    control: join(runDirectory, "control.sock"),
};

/** Makes the directories, readable by their owner only. */
export function makeHome(): void {
    mkdirSync(home, { recursive: true, mode: 0o700 });
    for (const name of [
        "bin",
        "certificates",
        "clusters",
        "docker",
        "logs",
        "project",
        "pulumi",
        "registries",
        "state",
    ]) {
        mkdirSync(join(home, name), { recursive: true, mode: 0o700 });
    }
    mkdirSync(runDirectory, { recursive: true, mode: 0o700 });
}
