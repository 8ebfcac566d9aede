import { execFile, spawn } from "node:child_process";
import {
    copyFileSync,
    existsSync,
    mkdirSync,
    mkdtempSync,
    readdirSync,
    readFileSync,
    rmSync,
    symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { durations } from "../sandbox/azure/model";

// `npm run bench`: how fast the program starts, beside a program in the examples' style and an empty one, on the same
// engine in turn; and how much an update takes beyond the longest chain of Azure's own durations. Prints ratios.

const checkout = resolve(__dirname, "..");
process.env.AKS_ACR_SANDBOX ??= ".sandbox-bench";

/** Rounds of previews; the median counts. */
const rounds = 5;
/** Factor on Azure's durations: large enough that the sandbox's own work does not count as the program's. */
const latency = 0.6;

interface Measured {
    /** Wall time in seconds. */
    seconds: number;
    /** Peak of the memory of the whole process tree, in MiB (proportional set size). */
    memory: number;
}

/** Runs a command of the engine and watches it and all its descendants. */
async function measure(args: string[], directory: string, environment: NodeJS.ProcessEnv): Promise<Measured> {
    // Cold: what ts-node and tsx have compiled is kept there, and a new CI machine has none of it.
    const TMPDIR = mkdtempSync(join(tmpdir(), "aks-acr-bench-"));
    const since = performance.now();
    const child = spawn("pulumi", args, {
        cwd: directory,
        env: { ...environment, TMPDIR },
        stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    child.stdout.on("data", (text) => {
        output += text;
    });
    child.stderr.on("data", (text) => {
        output += text;
    });
    let memory = 0;
    const watch = setInterval(() => {
        memory = Math.max(memory, treeMemory(child.pid ?? 0));
    }, 50);
    const code = await new Promise((done) => child.on("close", done));
    clearInterval(watch);
    rmSync(TMPDIR, { recursive: true, force: true });
    if (code !== 0)
        throw new Error(`pulumi ${args.join(" ")} in ${directory} ended with exit code ${code}:\n${output}`);
    return { seconds: (performance.now() - since) / 1000, memory };
}

function treeMemory(root: number): number {
    const children = new Map<number, number[]>();
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
        const parent = Number(/^PPid:\s+(\d+)/m.exec(readProc(pid, "status"))?.[1]);
        children.set(parent, [...(children.get(parent) ?? []), Number(pid)]);
    }
    const tree = [root];
    for (const pid of tree) tree.push(...(children.get(pid) ?? []));
    const kibibytes = tree.map((pid) =>
        Number(/^Pss:\s+(\d+)/m.exec(readProc(`${pid}`, "smaps_rollup"))?.[1] ?? 0),
    );
    return kibibytes.reduce((sum, each) => sum + each, 0) / 1024;
}

function readProc(pid: string, file: string): string {
    try {
        return readFileSync(join("/proc", pid, file), "utf8");
    } catch {
        // It has ended meanwhile.
        return "";
    }
}

const median = (values: number[]) =>
    [...values].sort((one, other) => one - other)[Math.floor(values.length / 2)] ?? 0;

/** A directory of its own in the sandbox for a program, so that its stack's file is not in the checkout. */
function project(home: string, name: string): string {
    // As deep as in the checkout, so that relative paths lead to the same files.
    const directory = join(home, name);
    mkdirSync(directory, { recursive: true });
    for (const file of ["Pulumi.yaml", "index.ts"])
        copyFileSync(join(checkout, "bench", name, file), join(directory, file));
    if (!existsSync(join(directory, "loader.cjs")))
        symlinkSync(join(checkout, "loader.cjs"), join(directory, "loader.cjs"));
    return directory;
}

async function previews(home: string, environment: NodeJS.ProcessEnv): Promise<void> {
    const programs = {
        "this program": join(home, "project"),
        "a program in the examples' style": project(home, "examples-style"),
        "an empty program": project(home, "empty"),
    };
    const measured = Object.fromEntries(Object.keys(programs).map((name) => [name, [] as Measured[]]));
    for (const directory of Object.values(programs)) {
        copyFileSync(join(checkout, "Pulumi.dev.yaml"), join(directory, "Pulumi.bench.yaml"));
        await promisify(execFile)("pulumi", ["stack", "select", "--create", "bench"], {
            cwd: directory,
            env: environment,
        });
        // Once before it counts, to fill the machine's file cache.
        await measure(["preview", "--stack", "bench"], directory, environment);
    }
    for (let round = 1; round <= rounds; round++) {
        console.error(`previews, round ${round} of ${rounds}`);
        for (const [name, directory] of Object.entries(programs)) {
            measured[name]?.push(await measure(["preview", "--stack", "bench"], directory, environment));
        }
    }
    const [ours, examples, empty] = Object.entries(measured).map(([name, all]) => {
        const seconds = median(all.map((each) => each.seconds));
        const memory = median(all.map((each) => each.memory));
        console.log(`preview of ${name}: ${seconds.toFixed(2)} s, ${memory.toFixed(0)} MiB`);
        return { seconds, memory };
    });
    if (!ours || !examples || !empty) return;
    console.log(
        `wall time, against the examples' style: ${(ours.seconds / examples.seconds).toFixed(3)} (aim 0.22)`,
    );
    console.log(
        `peak memory, against the examples' style: ${(ours.memory / examples.memory).toFixed(3)} (aim 0.16)`,
    );
    console.log(
        `wall time, against an empty program: ${(ours.seconds / empty.seconds).toFixed(2)} (aim 1.5)`,
    );
}

async function update(home: string, environment: NodeJS.ProcessEnv): Promise<void> {
    // Nothing of the stack can be faster than this: a group, an identity in it, its role, the cluster that needs it.
    const chain = [
        "Microsoft.Resources/resourceGroups",
        "Microsoft.ManagedIdentity/userAssignedIdentities",
        "Microsoft.Authorization/roleAssignments",
        "Microsoft.ContainerService/managedClusters",
    ] as const;
    const longest = chain.reduce((sum, type) => sum + (durations()[type]?.create ?? 0), 0) * latency;
    console.error(
        `an update from nothing at ${latency} of Azure's durations, about ${Math.ceil(longest / 60)} minutes`,
    );
    const directory = join(home, "project");
    const { seconds } = await measure(
        ["up", "--yes", "--skip-preview", "--stack", "dev"],
        directory,
        environment,
    );
    console.log(
        `up from nothing at ${latency} of Azure's durations: ${seconds.toFixed(1)} s; its longest chain: ${longest.toFixed(1)} s`,
    );
    console.log(`up from nothing, against its longest chain: ${(seconds / longest).toFixed(3)} (aim 1.05)`);
}

async function sandbox(...args: string[]): Promise<void> {
    const command = ["--import", "tsx", join(checkout, "sandbox", "cli.ts"), ...args];
    await promisify(execFile)(process.execPath, command, { maxBuffer: 1e8 });
}

async function bench(): Promise<void> {
    const { home, paths } = require("../sandbox/home") as typeof import("../sandbox/home");
    const { engineEnvironment } = require("../sandbox/engine") as typeof import("../sandbox/engine");
    await sandbox("stop");
    rmSync(home, { recursive: true, force: true });
    try {
        await sandbox("run", "stack", "ls");
        const environment = engineEnvironment(join(paths.certificates, "authority.crt"), undefined);
        await previews(home, environment);
        await sandbox("azure", "config", "set", `latency=${latency}`);
        await update(home, environment);
    } finally {
        await sandbox("stop");
        rmSync(home, { recursive: true, force: true });
    }
}

bench().catch((error) => {
    console.error(error.message);
    process.exit(1);
});
