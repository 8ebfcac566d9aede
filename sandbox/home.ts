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

/** Made by `makeHome`; what is in them follows from their names. */
const directories = [
    "bin",
    "certificates",
    "clusters",
    "docker",
    "logs",
    "project",
    "pulumi",
    "registries",
    "state",
] as const;
type Directories = Record<(typeof directories)[number], string>;

/** Files and directories of the sandbox, by what they hold. */
export const paths = {
    ...(Object.fromEntries(directories.map((name) => [name, join(home, name)])) as Directories),
    azure: join(home, "azure.json"),
    dockerConfiguration: join(home, "docker-config"),
    passphrase: join(home, "passphrase"),
    tools: join(home, "tools.json"),
    control: join(runDirectory, "control.sock"),
};

/** Makes the directories, readable by their owner only. */
export function makeHome(): void {
    for (const directory of [home, runDirectory, ...directories.map((name) => paths[name])])
        mkdirSync(directory, { recursive: true, mode: 0o700 });
}
