import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import {
    copyFileSync,
    existsSync,
    linkSync,
    mkdirSync,
    readdirSync,
    rmSync,
    symlinkSync,
    writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { writePrivate } from "./certificates";
import { ownSocket } from "./docker";
import { paths, runDirectory } from "./home";
import { symlinkOver } from "./mirror";
import type { Tools } from "./tools";

/** The stack that `npm start` brings up. */
export const defaultStack = "dev";

/** Where an outside program's environment must not reach into the sandbox's: the user's logins and settings of these tools. */
const foreign = /^(PULUMI_(?!K8S_)|ARM_|AZURE_|KUBECONFIG$|DOCKER_|NODE_OPTIONS$)/;

/**
 * Lays out what `pulumi` needs to run the program in the sandbox: the engine with its language host, kubelogin and
 * the provider plugins.
 *
 * @param port where the services process takes the calls of the provider stand-ins.
 */
export function layOutEngine(tools: Tools, port: number): void {
    rmSync(paths.bin, { recursive: true, force: true });
    script(
        join(paths.bin, "kubelogin"),
        `AKS_ACR_CONTROL='${paths.control}' exec '${process.execPath}' '${join(__dirname, "kubelogin.mjs")}' "$@"`,
    );
    const engine = join(paths.bin, "pulumi");
    if (tools.pulumi.source === "compiled") {
        const host = join(__dirname, "language-host.cjs");
        script(join(paths.bin, "pulumi-language-nodejs"), `exec node '${host}' "$@"`);
        // The engine looks for the language host beside its own file, so that must be here, not behind a link.
        try {
            linkSync(tools.pulumi.path, engine);
        } catch {
            // Another file system has no hard links to this one.
            copyFileSync(tools.pulumi.path, engine);
        }
    } else symlinkSync(tools.pulumi.path, engine);
    rmSync(join(paths.pulumi, "plugins"), { recursive: true, force: true });
    const plugins = { "azure-native": undefined, ...tools.plugins };
    for (const [name, vendors] of Object.entries(plugins)) {
        const { version } = require(`@pulumi/${name}/package.json`) as { version: string };
        const directory = join(paths.pulumi, "plugins", `resource-${name}-v${version}`);
        if (vendors) symlinkOver(vendors, directory);
        else script(join(directory, `pulumi-resource-${name}`), standIn(name, port));
    }
    if (!existsSync(paths.passphrase)) writePrivate(paths.passphrase, randomBytes(24).toString("base64url"));
}

/**
 * A plugin that is one connection to the services process, which serves a provider instance for as long as it lasts and
 * says at which port. So an instance ends with its script, as a plugin of its own would, and costs no start of Node.
 */
function standIn(name: string, port: number): string {
    return [
        `exec 3<>/dev/tcp/127.0.0.1/${port}`,
        `printf '%s\\t%s\\t%s\\n' '${name}' "\${1-}" "$PWD" >&3`,
        "read -r port <&3",
        'echo "$port"',
        "exec cat <&3",
    ].join("\n");
}

function script(file: string, body: string): void {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, `#!/bin/bash\n${body}\n`, { mode: 0o755 });
}

/**
 * The environment in which `pulumi` works on the sandbox and on nothing of the user's.
 *
 * @param authority PEM file of the authority that the registries' certificates come from.
 * @param dockerSocket the Docker daemon's. Default: that of a daemon of the sandbox's own.
 */
export function engineEnvironment(
    authority: string,
    dockerSocket = ownSocket(join(runDirectory, "docker")),
): NodeJS.ProcessEnv {
    const own = Object.entries(process.env).filter(([name]) => !foreign.test(name));
    return {
        ...Object.fromEntries(own),
        PATH: `${paths.bin}:${dirname(process.execPath)}:${process.env.PATH}`,
        PULUMI_HOME: paths.pulumi,
        PULUMI_BACKEND_URL: `file://${paths.state}`,
        PULUMI_CONFIG_PASSPHRASE_FILE: paths.passphrase,
        PULUMI_SKIP_UPDATE_CHECK: "true",
        PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
        NODE_EXTRA_CA_CERTS: authority,
        DOCKER_CONFIG: paths.dockerConfiguration,
        DOCKER_HOST: `unix://${dockerSocket}`,
    };
}

/** Runs `pulumi` in the sandbox on the user's terminal; resolves to its exit code. */
export async function pulumi(
    args: string[],
    environment: NodeJS.ProcessEnv,
    output: "inherit" | "ignore" = "inherit",
): Promise<number> {
    const child = spawn(join(paths.bin, "pulumi"), args, {
        cwd: paths.project,
        env: environment,
        stdio: ["inherit", output, "inherit"],
    });
    // The engine gets the terminal's Ctrl-C itself and ends in good order; this process must outlive it.
    const ignore = () => undefined;
    process.on("SIGINT", ignore);
    try {
        const [code] = await once(child, "exit");
        return code ?? 1;
    } finally {
        process.off("SIGINT", ignore);
    }
}

/** Names of the stacks there are. */
export function stackNames(): string[] {
    const directory = join(paths.state, ".pulumi", "stacks", "aks-acr");
    const files = existsSync(directory) ? readdirSync(directory) : [];
    return files.filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -".json".length));
}

/** Makes a stack that is not there, with the settings of its file in the checkout, and selects it unless told otherwise. */
export async function makeStack(
    environment: NodeJS.ProcessEnv,
    name: string,
    ...options: "--no-select"[]
): Promise<void> {
    if (stackNames().includes(name)) return;
    const code = await pulumi(["stack", "init", name, ...options], environment, "ignore");
    if (code !== 0) throw new Error(`pulumi stack init ended with exit code ${code}; see above.`);
}
