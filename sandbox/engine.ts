import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
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
const foreign = /^(PULUMI_|ARM_|AZURE_|KUBECONFIG$|DOCKER_|NODE_OPTIONS$)/;

/**
 * Lays out what `pulumi` needs to run the program in the sandbox: the engine with its language host, kubelogin and
 * the provider plugins.
 *
 * @param port where the services process takes the calls of the provider stand-ins.
 */
export function layOutEngine(tools: Tools, port: number): void {
    const engine = join(paths.bin, "pulumi");
    rmSync(engine, { force: true });
    if (tools.pulumi.source === "compiled") {
        // The engine looks for the language host beside its own file, so that must be here, not behind a link.
        linkOrCopy(tools.pulumi.path, engine);
        script(
            join(paths.bin, "pulumi-language-nodejs"),
            `exec node '${join(__dirname, "language-host.cjs")}' "$@"`,
        );
    } else {
        symlinkSync(tools.pulumi.path, engine);
        rmSync(join(paths.bin, "pulumi-language-nodejs"), { force: true });
    }
    script(
        join(paths.bin, "kubelogin"),
        `AKS_ACR_CONTROL='${paths.control}' exec '${process.execPath}' '${join(__dirname, "kubelogin.mjs")}' "$@"`,
    );
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

function linkOrCopy(source: string, target: string): void {
    try {
        linkSync(source, target);
    } catch {
        // Another file system has no hard links to this one.
        copyFileSync(source, target);
    }
}

function script(file: string, body: string): void {
    mkdirSync(dirname(file), { recursive: true });
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
export function pulumi(
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
    return new Promise((resolve, reject) => {
        child.on("error", reject);
        child.on("exit", (code) => {
            process.off("SIGINT", ignore);
            resolve(code ?? 1);
        });
    });
}

/** Names of the stacks there are. */
function stackNames(): string[] {
    const directory = join(paths.state, ".pulumi", "stacks", "aks-acr");
    const files = existsSync(directory) ? readdirSync(directory) : [];
    return files.filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -".json".length));
}

/** Makes those of the stacks that are not there, each with the settings of its file in the checkout. */
export async function makeStacks(environment: NodeJS.ProcessEnv, names: string[]): Promise<void> {
    for (const name of names.filter((each) => !stackNames().includes(each))) {
        const code = await pulumi(["stack", "init", name, "--no-select"], environment, "ignore");
        if (code !== 0) throw new Error(`pulumi stack init ended with exit code ${code}; see above.`);
    }
}

/**
 * Makes the default stack and selects it where there is none: no stack at all, for whoever renames it is not given it
 * again; or, where it is `needed`, no default stack.
 */
export async function selectDefaultStack(environment: NodeJS.ProcessEnv, needed = false): Promise<void> {
    const names = stackNames();
    if (needed ? names.includes(defaultStack) : names.length > 0) return;
    const code = await pulumi(["stack", "select", "--create", defaultStack], environment, "ignore");
    if (code !== 0) throw new Error(`pulumi stack select ended with exit code ${code}; see above.`);
}
