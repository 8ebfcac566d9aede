import { type ChildProcess, execFile, spawn } from "node:child_process";
import {
    appendFileSync,
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
import { cgroupOf, makeCgroup, mounted, removeCgroup } from "./cgroups";
import { lastLines } from "./progress";

/** A program that runs until it is stopped; it is started again when it ends by itself. */
export interface ProcessSpec {
    /** Unique; names the log file and the cgroup too. */
    name: string;
    command: string;
    args: string[];
    /** The whole environment but PATH and HOME. */
    env?: Record<string, string>;
    /** Files of the namespaces that it runs in; default: the host's. */
    namespaces?: { network: string; mounts: string };
    /** Asked every 50 ms; an error counts as no. Default: ready as soon as it is started. */
    ready?: () => Promise<boolean>;
    /** How long it may take to be ready, in milliseconds; default: two minutes. */
    readyWithin?: number;
}

/** A process that runs, or runs again soon. */
interface Supervised {
    child: ChildProcess;
    /** Resolves to how it ended. */
    end: Promise<string>;
    stopping: boolean;
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
        const { name, readyWithin = 120_000 } = spec;
        const log = join(this.logDirectory, `${name}.log`);
        if (existsSync(log)) renameSync(log, `${log}.1`);
        const process = { ...this.launch(spec, log), stopping: false };
        this.supervised.set(name, process);
        let waiting = true;
        const ready = async () => {
            while (waiting && !(await isReady(spec))) await sleep(50);
            return "";
        };
        const problem = await Promise.race([
            ready(),
            process.end.then((how) => `ended with ${how}`),
            sleep(readyWithin, "did not answer in time", { ref: false }),
        ]);
        waiting = false;
        if (problem) {
            await this.stop(name);
            throw new Error(
                `${name} ${problem} before it was ready.\n${lastLines(readFileSync(log, "utf8"))}` +
                    `Its whole output is in ${log}; when the cause is gone, run the command again.`,
            );
        }
        this.keepRunning(spec, log, process);
    }

    /**
     * Ends a process (TERM, after `grace` milliseconds KILL) and all that it started. Does nothing where there is none.
     */
    async stop(name: string, grace = 5000): Promise<void> {
        const process = this.supervised.get(name);
        if (!process) return;
        process.stopping = true;
        process.child.kill("SIGTERM");
        await Promise.race([process.end, sleep(grace)]);
        await removeCgroup(`${cgroupOf(this.id)}/host/${name}`, 0);
        this.supervised.delete(name);
    }

    /** Ends everything in a cgroup that `cgroup` made, and removes it. */
    async removeCgroup(name: string): Promise<void> {
        await removeCgroup(`${cgroupOf(this.id)}/${name}`, 2000);
    }

    private launch({ name, command, args, env, namespaces }: ProcessSpec, log: string) {
        const cgroup = makeCgroup(`${cgroupOf(this.id)}/host/${name}`);
        const inside = namespaces
            ? ["nsenter", `--net=${namespaces.network}`, `--mount=${namespaces.mounts}`, "--", command]
            : [command];
        const output = openSync(log, "a", 0o600);
        const enter = 'echo $$ > "$0" && exec "$@"';
        const child = spawn("/bin/sh", ["-c", enter, cgroup, ...inside, ...args], {
            env: { PATH: searchPath(), HOME: "/root", ...env },
            stdio: ["ignore", output, output],
            detached: true, // A Ctrl-C in the terminal is not for it.
        });
        closeSync(output);
        const end = new Promise<string>((resolve) => {
            child.once("error", (error) => resolve(error.message));
            child.once("exit", (code, signal) => resolve(signal ?? `exit code ${code}`));
        });
        return { child, end };
    }

    /** Starts a process again whenever it ends by itself; the pause before doubles with each quick end. */
    private async keepRunning(spec: ProcessSpec, log: string, process: Supervised): Promise<void> {
        for (let delay = shortestDelay; ; delay = Math.min(2 * delay, longestDelay)) {
            const since = Date.now();
            const how = await process.end;
            if (Date.now() - since > 3 * longestDelay) delay = shortestDelay;
            if (process.stopping) return;
            appendFileSync(log, `-- ended with ${how}; starts again in ${delay} ms --\n`);
            await sleep(delay);
            if (process.stopping) return;
            Object.assign(process, this.launch(spec, log));
        }
    }

    private shortenLogs(): void {
        for (const name of readdirSync(this.logDirectory)) {
            const log = join(this.logDirectory, name);
            if (statSync(log).size > longestLog) truncateSync(log);
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
    await clear(`/run/aks-acr/${id}`, async () => {
        await removeCgroup(cgroupOf(id), 3000);
        await unmountBelow(home);
        for (const device of readdirSync("/sys/class/net").filter((name) => name.startsWith(`aa${id}`))) {
            // A device can go by itself in the meantime, with its network namespace.
            await run("ip", "link", "delete", device).catch(() => undefined);
        }
    });
    if (existsSync("/run/aks-acr") && readdirSync("/run/aks-acr").length === 0) rmdirSync("/run/aks-acr");
}

/** Unmounts whatever is mounted below the directories. Throws where a mount stays: what it shows must not be deleted. */
export async function unmountBelow(...directories: string[]): Promise<void> {
    const found = () =>
        mounted().filter(({ path }) => directories.some((directory) => path.startsWith(`${directory}/`)));
    for (const { path } of found().reverse()) {
        await run("umount", path).catch(() => run("umount", "-l", path).catch(() => undefined));
    }
    const [left] = found();
    if (left) throw new Error(`${left.path} cannot be unmounted; end what uses it, then run npm stop again.`);
}

/**
 * Removes a directory in /run and all mounts below, once `end` has ended what runs from it. Also removes the sockets of
 * the containerd shims among that: their place is fixed in containerd, and nobody but their maker, who is killed, would.
 */
export async function clear(runDirectory: string, end: () => Promise<void>): Promise<void> {
    const addresses = "-xdev -path */io.containerd.runtime.v2.task/*/address -exec cat {} ;".split(" ");
    const { stdout } = await run("find", runDirectory, ...addresses).catch(() => ({ stdout: "" }));
    await end();
    for (const socket of stdout.match(/\/run\/containerd\/s\/[0-9a-f]{64}/g) ?? [])
        rmSync(socket, { force: true });
    await unmountBelow(runDirectory);
    rmSync(runDirectory, { recursive: true, force: true });
}

const searchPath = () => `${process.env.PATH ?? "/usr/bin:/bin"}:/usr/sbin:/sbin`;
const run = (command: string, ...args: string[]) =>
    promisify(execFile)(command, args, { env: { PATH: searchPath() } });

async function isReady(spec: ProcessSpec): Promise<boolean> {
    try {
        const late = sleep(5000, false, { ref: false });
        return spec.ready ? await Promise.race([spec.ready(), late]) : true;
    } catch {
        return false;
    }
}
