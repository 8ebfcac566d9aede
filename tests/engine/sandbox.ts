import { execFile } from "node:child_process";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Agent, request } from "undici";

// The engine tests use the sandbox as a person does, through its commands, but one of their own beside the person's.

const checkout = resolve(__dirname, "..", "..");
export const home = ".sandbox-test";

/** A file or directory of the sandbox under test. */
export const inHome = (...names: string[]) => join(checkout, home, ...names);

/** What a command did. */
export interface Outcome {
    code: number;
    /** Standard output and standard error, as they came. */
    output: string;
    seconds: number;
}

/** Runs a command of the sandbox: `start`, `stop`, `run <pulumi arguments>`, `azure <arguments>`. */
export function sandbox(...args: string[]): Promise<Outcome> {
    const since = Date.now();
    const command = ["--import", "tsx", join(checkout, "sandbox", "cli.ts"), ...args];
    const options = { cwd: checkout, env: { ...process.env, AKS_ACR_SANDBOX: home }, maxBuffer: 1e8 };
    return new Promise((done) => {
        let output = "";
        const child = execFile(process.execPath, command, options);
        child.stdout?.on("data", (text) => {
            output += text;
        });
        child.stderr?.on("data", (text) => {
            output += text;
        });
        child.on("close", (code) => done({ code: code ?? 1, output, seconds: (Date.now() - since) / 1000 }));
    });
}

/** Runs a command that must succeed and gives its output. */
export async function succeed(...args: string[]): Promise<string> {
    const { code, output } = await sandbox(...args);
    if (code !== 0) throw new Error(`${args.join(" ")} ended with exit code ${code}:\n${output}`);
    return output;
}

/** Stops what an earlier run may have left, and begins with nothing. */
export async function startOver(): Promise<void> {
    await sandbox("stop");
    rmSync(inHome(), { recursive: true, force: true });
}

/** `pulumi up` as a person types it, with the changes to make taken as they are. */
export const up = (...more: string[]) => succeed("run", "up", "--yes", "--skip-preview", ...more);

/** The stack's outputs, as index.ts exports them. */
export interface Outputs {
    clusterId: string;
    clusterName: string;
    deployment: string;
    image: string;
    imageDigest: string;
    kubeconfig: string;
    loginServer: string;
    namespace: string;
    pullAccess: { principalId: string; scope: string; roleDefinitionId: string; state: string };
    registryId: string;
    registryName: string;
    resourceGroupName: string;
}

/** The stack's outputs, secrets included. */
export async function outputs(): Promise<Outputs> {
    return JSON.parse(await succeed("run", "stack", "output", "--json", "--show-secrets"));
}

/** The resources that an update changed, as `<type> <name> <what was done>`, without the stack and components. */
export function changes(output: string): string[] {
    const lines = output.matchAll(
        /^ *(?:\+|~|-|\+-|-\+|\+\+|--) +(\S+) (\S+) (created|updated|deleted|replaced)\b/gm,
    );
    const all = [...lines].map(([, type, name, done]) => `${type} ${name} ${done}`);
    // A line can come again with a later message.
    return [...new Set(all)].filter((line) => !/^(pulumi:pulumi:Stack|aks-acr:)/.test(line)).sort();
}

/** What the sandbox's Azure answers, as JSON. */
export async function azure(...args: string[]): Promise<any> {
    return JSON.parse(await succeed("azure", ...args));
}

/** The environment that `pulumi` has in a sandbox that is up. */
export async function engineEnvironment(): Promise<NodeJS.ProcessEnv> {
    process.env.AKS_ACR_SANDBOX = home;
    const engine = require("../../sandbox/engine") as typeof import("../../sandbox/engine");
    const { paths } = require("../../sandbox/home") as typeof import("../../sandbox/home");
    const dispatcher = new Agent({ connect: { socketPath: paths.control } });
    const { body } = await request("http://sandbox/status", { method: "POST", body: "{}", dispatcher });
    const { dockerSocket } = (await body.json()) as { dockerSocket?: string };
    await dispatcher.close();
    return engine.engineEnvironment(inHome("certificates", "authority.crt"), dockerSocket);
}

/** Puts a build context of the test's own in place of the checkout's app/, and gives its page's file. */
export function ownPage(): string {
    const app = inHome("project", "app");
    rmSync(app, { recursive: true });
    cpSync(join(checkout, "app"), app, { recursive: true });
    return join(app, "index.html");
}

/** Replaces text in a file that must hold it. */
export function edit(file: string, from: string, to: string): void {
    const text = readFileSync(file, "utf8");
    if (!text.includes(from)) throw new Error(`${file} does not contain ${from}`);
    writeFileSync(file, text.replace(from, to));
}

/** Waits until the check gives something, and gives that; fails with what it last saw. */
export async function eventually<T>(
    check: () => Promise<T | undefined>,
    seconds: number,
    what: string,
): Promise<T> {
    const until = Date.now() + seconds * 1000;
    for (;;) {
        const found = await check();
        if (found !== undefined) return found;
        if (Date.now() > until) throw new Error(`not within ${seconds} s: ${what}`);
        await new Promise((again) => setTimeout(again, 250));
    }
}
