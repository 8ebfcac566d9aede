import { type ChildProcess, execFile, spawn } from "node:child_process";
import {
    closeSync,
    existsSync,
    mkdirSync,
    openSync,
    readdirSync,
    readFileSync,
    renameSync,
    rmdirSync,
    rmSync,
    statSync,
    truncateSync,
    writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { cgroupOf, makeCgroup, removeCgroup } from "./cgroups";

const run = promisify(execFile);

/** A program that runs until it is stopped. */
export interface ProcessSpec {
    /** Unique; names the log file and the cgroup too. */
    name: string;
    command: string;
    args: string[];
    /** The whole environment but PATH and HOME. */
    env?: Record<string, string>;
    /** File of the network namespace that it runs in; default: the host's. */
    network?: string;
    /** File of the mount namespace that it runs in; default: the host's. */
    mounts?: string;
    /** Asked every 50 ms; an error counts as no. Default: ready as soon as it is started. */
    ready?: () => Promise<boolean>;
    /** How long it may take to be ready, in milliseconds; default: two minutes. */
    readyWithin?: number;
    /** Whether it is started again when it ends by itself; default: true. */
    restart?: boolean;
}

interface Supervised {
    spec: ProcessSpec;
    log: string;
    child?: ChildProcess;
    /** How it ended, until it runs again. */
    ended?: string;
    isReady: boolean;
    stopping: boolean;
    /** Milliseconds until the next start; doubles with each quick end. */
    delay: number;
}

const shortestDelay = 200;
const longestDelay = 10_000;
const longestLog = 10 * 1024 * 1024;

/**
 * The child processes of one sandbox. Each runs in a cgroup of its own, as do its descendants, so that `cleanUp` finds
 * them whatever else was killed.
 */
export class Processes {
    readonly id: string;
    private readonly logDirectory: string;
    private readonly supervised = new Map<string, Supervised>();

    constructor({ id, logDirectory }: { id: string; logDirectory: string }) {
        this.id = id;
        this.logDirectory = logDirectory;
        mkdirSync(logDirectory, { recursive: true, mode: 0o700 });
        setInterval(() => this.shortenLogs(), 60_000).unref();
    }

    /**
     * Makes the cgroup for containers, e.g. `pods/<cluster>` or `docker`, and gives its path as container runtimes take
     * it: below where cgroups are mounted, with a slash in front.
     */
    cgroup(name: string): string {
        makeCgroup(`${cgroupOf(this.id)}/${name}`);
        return `${cgroupOf(this.id)}/${name}`;
    }

    /**
     * Starts a process and resolves when it is ready. Throws with its last lines when it ends before, or is not ready in
     * time; then it is stopped.
     */
    async start(spec: ProcessSpec): Promise<void> {
        if (this.supervised.has(spec.name)) throw new Error(`${spec.name} runs already; stop it first.`);
        const log = join(this.logDirectory, `${spec.name}.log`);
        if (existsSync(log)) renameSync(log, `${log}.1`);
        const process: Supervised = { spec, log, isReady: false, stopping: false, delay: shortestDelay };
        this.supervised.set(spec.name, process);
        this.launch(process);
        const deadline = Date.now() + (spec.readyWithin ?? 120_000);
        let problem: string | undefined;
        while (!(await isReady(spec))) {
            if (process.stopping) problem = "was stopped";
            else if (process.ended) problem = `ended with ${process.ended}`;
            else if (Date.now() > deadline) problem = "did not answer in time";
            if (problem) break;
            await sleep(50);
        }
        if (problem) {
            await this.stop(spec.name);
            const lines = readFileSync(log, "utf8").trimEnd().split("\n").slice(-10);
            throw new Error(
                `${spec.name} ${problem} before it was ready.\n${lines.map((line) => `  | ${line}\n`).join("")}` +
                    `Its whole output is in ${log}; when the cause is gone, run the command again.`,
            );
        }
        process.isReady = true;
        if (process.ended) this.relaunch(process);
    }

    /**
     * Ends a process (TERM, after `grace` milliseconds KILL) and all that it started. Does nothing where there is none.
     */
    async stop(name: string, grace = 5000): Promise<void> {
        const process = this.supervised.get(name);
        if (!process) return;
        process.stopping = true;
        process.child?.kill("SIGTERM");
        for (let waited = 0; !process.ended && waited < grace; waited += 20) await sleep(20);
        await removeCgroup(`${cgroupOf(this.id)}/host/${name}`, 0);
        this.supervised.delete(name);
    }

    /** Ends everything in a cgroup that `cgroup` made, and removes it. */
    async removeCgroup(name: string): Promise<void> {
        await removeCgroup(`${cgroupOf(this.id)}/${name}`, 2000);
    }

    private launch(process: Supervised): void {
        const { name, command, args, env, network, mounts } = process.spec;
        const cgroup = makeCgroup(`${cgroupOf(this.id)}/host/${name}`);
        const namespaces = [
            ...(network ? [`--net=${network}`] : []),
            ...(mounts ? [`--mount=${mounts}`] : []),
        ];
        const inside = namespaces.length > 0 ? ["nsenter", ...namespaces, "--", command] : [command];
        const output = openSync(process.log, "a", 0o600);
        const enter = 'echo $$ > "$0" && exec "$@"';
        delete process.ended;
        const child = spawn("/bin/sh", ["-c", enter, cgroup, ...inside, ...args], {
            env: { PATH: searchPath(), HOME: "/root", ...env },
            stdio: ["ignore", output, output],
            detached: true, // A Ctrl-C in the terminal is not for it.
        });
        closeSync(output);
        const since = Date.now();
        const end = (how: string) => {
            process.ended = how;
            if (Date.now() - since > 3 * longestDelay) process.delay = shortestDelay;
            this.relaunch(process);
        };
        child.once("error", (error) => end(error.message));
        child.once("exit", (code, signal) => end(signal ?? `exit code ${code}`));
        process.child = child;
    }

    private relaunch(process: Supervised): void {
        if (process.stopping || !process.isReady || process.spec.restart === false) return;
        const note = `-- ended with ${process.ended}; starts again in ${process.delay} ms --\n`;
        writeFileSync(process.log, note, { flag: "a" });
        setTimeout(() => process.stopping || this.launch(process), process.delay);
        process.delay = Math.min(2 * process.delay, longestDelay);
    }

    private shortenLogs(): void {
        for (const { log } of this.supervised.values()) {
            if (existsSync(log) && statSync(log).size > longestLog) truncateSync(log);
        }
    }
}

/** Lets `cleanUp` end this process too, where it is the sandbox's. */
export function enterCgroup(id: string, name: string): void {
    writeFileSync(makeCgroup(`${cgroupOf(id)}/host/${name}`), `${process.pid}`);
}

/**
 * Ends and removes all that the sandbox with this id left on the machine: processes, mounts, network devices, cgroups
 * and its files in /run. Its data in `home` stays. Does nothing where nothing is left; what lacks the id is not touched.
 */
export async function cleanUp(id: string, home: string): Promise<void> {
    const runDirectory = `/run/aks-acr/${id}`;
    const sockets = await shimSockets(runDirectory);
    await removeCgroup(cgroupOf(id), 3000);
    await unmountBelow(home, runDirectory);
    for (const device of readdirSync("/sys/class/net").filter((name) => name.startsWith(`aa${id}`))) {
        // A device can go by itself in the meantime, with its network namespace.
        await run("ip", ["link", "delete", device], tools()).catch(() => undefined);
    }
    for (const socket of sockets) rmSync(socket, { force: true });
    rmSync(runDirectory, { recursive: true, force: true });
    if (existsSync("/run/aks-acr") && readdirSync("/run/aks-acr").length === 0) rmdirSync("/run/aks-acr");
}

/** Unmounts whatever is mounted below the directories. Throws where a mount stays: what it shows must not be deleted. */
export async function unmountBelow(...directories: string[]): Promise<void> {
    const found = () =>
        readFileSync("/proc/self/mountinfo", "utf8")
            .split("\n")
            .map((line) => (line.split(" ")[4] ?? "").replace(/\\(\d{3})/g, character))
            .filter((path) => directories.some((directory) => path.startsWith(`${directory}/`)));
    for (const path of found().reverse()) {
        await run("umount", [path], tools()).catch(() =>
            run("umount", ["-l", path], tools()).catch(() => undefined),
        );
    }
    const [left] = found();
    if (left) throw new Error(`${left} cannot be unmounted; end what uses it, then run npm stop again.`);
}

/**
 * The sockets of the containerd shims that run from this directory. Their place is fixed in containerd, and nobody but
 * their maker removes them: read this before the shims are killed, then delete the files.
 */
export async function shimSockets(runDirectory: string): Promise<string[]> {
    const find = [
        runDirectory,
        "-xdev",
        "-path",
        "*/io.containerd.runtime.v2.task/*/address",
        "-exec",
        "cat",
        "{}",
        ";",
    ];
    const { stdout } = await run("find", find, tools()).catch(() => ({ stdout: "" }));
    return stdout.match(/\/run\/containerd\/s\/[0-9a-f]{64}/g) ?? [];
}

const character = (_: string, octal: string) => String.fromCharCode(Number.parseInt(octal, 8));
const searchPath = () => `${process.env.PATH ?? "/usr/bin:/bin"}:/usr/sbin:/sbin`;
const tools = () => ({ env: { PATH: searchPath() } });

async function isReady(spec: ProcessSpec): Promise<boolean> {
    try {
        const late = sleep(5000, false, { ref: false });
        return spec.ready ? await Promise.race([spec.ready(), late]) : true;
    } catch {
        return false;
    }
}
