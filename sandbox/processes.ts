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
        return makeCgroup(`aks-acr-${this.id}/${name}`);
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
        await removeCgroup(`aks-acr-${this.id}/host/${name}`, 0);
        this.supervised.delete(name);
    }

    /** Ends everything in a cgroup that `cgroup` made, and removes it. */
    async removeCgroup(name: string): Promise<void> {
        await removeCgroup(`aks-acr-${this.id}/${name}`, 2000);
    }

    private launch(process: Supervised): void {
        const { name, command, args, env, network, mounts } = process.spec;
        const cgroup = makeCgroup(`aks-acr-${this.id}/host/${name}`);
        const namespaces = [
            ...(network ? [`--net=${network}`] : []),
            ...(mounts ? [`--mount=${mounts}`] : []),
        ];
        const inside = namespaces.length > 0 ? ["nsenter", ...namespaces, "--", command] : [command];
        const output = openSync(process.log, "a", 0o600);
        const enter = 'echo $$ > "$0" && exec "$@"';
        delete process.ended;
        const child = spawn(
            "/bin/sh",
            ["-c", enter, join(tracker(), cgroup, "cgroup.procs"), ...inside, ...args],
            {
                env: { PATH: searchPath(), HOME: "/root", ...env },
                stdio: ["ignore", output, output],
                detached: true, // A Ctrl-C in the terminal is not for it.
            },
        );
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

/**
 * Ends and removes all that the sandbox with this id left on the machine: processes, mounts, network devices, cgroups
 * and its files in /run. Its data in `home` stays. Does nothing where nothing is left; what lacks the id is not touched.
 */
export async function cleanUp(id: string, home: string): Promise<void> {
    const runDirectory = `/run/aks-acr/${id}`;
    await removeCgroup(`aks-acr-${id}`, 3000);
    await unmountBelow(home, runDirectory);
    const links: { ifname: string }[] = JSON.parse((await run("ip", ["-json", "link"], tools())).stdout);
    for (const { ifname } of links.filter((link) => link.ifname.startsWith(`aa${id}`))) {
        // A device can go by itself in the meantime, with its network namespace.
        await run("ip", ["link", "delete", ifname], tools()).catch(() => undefined);
    }
    removeShimSockets(runDirectory);
    rmSync(runDirectory, { recursive: true, force: true });
    if (existsSync("/run/aks-acr") && readdirSync("/run/aks-acr").length === 0) rmdirSync("/run/aks-acr");
}

/** Unmounts whatever is mounted at or below the directories. Throws where something stays: removing it would delete what is mounted. */
export async function unmountBelow(...directories: string[]): Promise<void> {
    const found = () =>
        readFileSync("/proc/self/mountinfo", "utf8")
            .split("\n")
            .map((line) => (line.split(" ")[4] ?? "").replace(/\\(\d{3})/g, unescape))
            .filter((path) => directories.some((directory) => `${path}/`.startsWith(`${directory}/`)));
    for (const path of found().reverse()) {
        await run("umount", [path], tools()).catch(() =>
            run("umount", ["-l", path], tools()).catch(() => undefined),
        );
    }
    const [left] = found();
    if (left) throw new Error(`${left} cannot be unmounted; end what uses it, then run npm stop again.`);
}

/** Removes the sockets of dead containerd shims: their place, /run/containerd/s, is fixed in containerd. */
export function removeShimSockets(runDirectory: string): void {
    if (!existsSync(runDirectory)) return;
    for (const entry of readdirSync(runDirectory, { recursive: true, withFileTypes: true })) {
        if (entry.name !== "address" || !entry.isFile()) continue;
        const [, socket] =
            /^unix:\/\/(\/run\/containerd\/s\/[0-9a-f]+)$/.exec(
                readFileSync(join(entry.path, entry.name), "utf8"),
            ) ?? [];
        if (socket) rmSync(socket, { force: true });
    }
}

const unescape = (_: string, octal: string) => String.fromCharCode(Number.parseInt(octal, 8));
const searchPath = () => `${process.env.PATH ?? "/usr/bin:/bin"}:/usr/sbin:/sbin`;
const tools = () => ({ env: { PATH: searchPath() } });

async function isReady(spec: ProcessSpec): Promise<boolean> {
    try {
        return spec.ready ? await spec.ready() : true;
    } catch {
        return false;
    }
}

/** Where cgroups are mounted: each controller apart (version 1), or all together (version 2). */
function hierarchies(): { version: 1 | 2; mounts: string[] } {
    const all = readFileSync("/proc/self/mountinfo", "utf8")
        .split("\n")
        .map((line) => ({ path: line.split(" ")[4] ?? "", type: line.split(" - ")[1]?.split(" ")[0] }))
        .filter(({ path }) => path.startsWith("/sys/fs/cgroup"));
    // Both at once are version 1, with a second tree for systemd that kubelet uses too.
    const version = all.some(({ type }) => type === "cgroup") ? 1 : 2;
    const mounts = all.filter(({ type }) => type?.startsWith("cgroup")).map(({ path }) => path);
    if (mounts.length === 0)
        throw new Error("No cgroups are mounted at /sys/fs/cgroup; in a container, use --privileged.");
    return { version, mounts };
}

/** The hierarchy that says which processes are ours. */
const tracker = () => {
    const { mounts } = hierarchies();
    return mounts.find((mount) => mount.endsWith("/pids")) ?? mounts[0] ?? "";
};

function makeCgroup(path: string): string {
    const { version, mounts } = hierarchies();
    for (const mount of mounts) {
        let parent = mount;
        for (const name of path.split("/")) {
            if (version === 2) delegateControllers(parent);
            parent = join(parent, name);
            mkdirSync(parent, { recursive: true });
        }
    }
    return `/${path}`;
}

/** Version 2: children get only the controllers that the parent names, and a parent that names any has no processes. */
function delegateControllers(directory: string): void {
    const controllers = readFileSync(join(directory, "cgroup.controllers"), "utf8").trim().split(" ");
    // Only the machine's root has no type and may keep its processes; in a container they move, as in docker's own images.
    if (directory === "/sys/fs/cgroup" && existsSync(join(directory, "cgroup.type"))) {
        mkdirSync(join(directory, "init"), { recursive: true });
        for (const pid of processesIn(directory)) {
            attempt(() => writeFileSync(join(directory, "init", "cgroup.procs"), `${pid}`));
        }
    }
    for (const controller of controllers.filter(Boolean)) {
        attempt(() => writeFileSync(join(directory, "cgroup.subtree_control"), `+${controller}`));
    }
}

async function removeCgroup(path: string, grace: number): Promise<void> {
    const roots = hierarchies().mounts.map((mount) => join(mount, path));
    const processes = () => roots.flatMap((root) => descendants(root).flatMap(processesIn));
    const begin = Date.now();
    const signal = (name: NodeJS.Signals) => processes().map((pid) => attempt(() => process.kill(pid, name)));
    if (grace > 0) signal("SIGTERM");
    while (processes().length > 0 && Date.now() - begin < grace) await sleep(50);
    while (roots.some(existsSync)) {
        signal("SIGKILL");
        for (const root of roots)
            for (const directory of descendants(root)) attempt(() => rmdirSync(directory));
        if (Date.now() - begin > grace + 10_000) {
            throw new Error(
                `The processes ${processes().join(", ")} in cgroup ${path} do not end; restart the machine.`,
            );
        }
        await sleep(20);
    }
}

/** A cgroup and all below it, deepest first. */
function descendants(directory: string): string[] {
    if (!existsSync(directory)) return [];
    const children = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [...children.flatMap(({ name }) => descendants(join(directory, name))), directory];
}

function processesIn(directory: string): number[] {
    let lines = "";
    attempt(() => {
        lines = readFileSync(join(directory, "cgroup.procs"), "utf8");
    });
    // 0 stands for a process of another PID namespace.
    return lines
        .split("\n")
        .map(Number)
        .filter((pid) => pid > 0);
}

/** For what another process may have done first. */
function attempt(action: () => void): void {
    try {
        action();
    } catch {}
}
