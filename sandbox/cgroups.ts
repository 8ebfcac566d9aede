import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** The sandbox's cgroup, which all of its processes and containers are in; a path below where cgroups are mounted. */
export const cgroupOf = (id: string) => `/aks-acr-${id}`;

/** Makes a cgroup in every hierarchy and gives the file that a process is written to, by its id, to be in it. */
export function makeCgroup(path: string): string {
    const { version, mounts } = hierarchies();
    for (const mount of mounts) {
        let directory = mount;
        for (const name of path.split("/").filter(Boolean)) {
            if (version === 2) delegateControllers(directory);
            directory = join(directory, name);
            mkdirSync(directory, { recursive: true });
        }
    }
    // In version 1, any of them tells which processes are ours; this one changes nothing for them.
    const tracker = mounts.find((mount) => mount.endsWith("/pids")) ?? mounts[0] ?? "";
    return join(tracker, path, "cgroup.procs");
}

/**
 * Ends all processes in a cgroup (TERM, after `grace` milliseconds KILL) and removes it with all below it. Throws where
 * a process does not end.
 */
export async function removeCgroup(path: string, grace: number): Promise<void> {
    const cgroups = () => hierarchies().mounts.flatMap((mount) => withDescendants(join(mount, path)));
    const processes = () => cgroups().flatMap(processesIn);
    const signal = (name: NodeJS.Signals) => {
        for (const pid of processes()) attempt(() => process.kill(pid, name));
    };
    const begin = Date.now();
    if (grace > 0) signal("SIGTERM");
    while (processes().length > 0 && Date.now() - begin < grace) await sleep(50);
    while (cgroups().length > 0) {
        signal("SIGKILL");
        for (const directory of cgroups()) attempt(() => rmdirSync(directory));
        if (Date.now() - begin > grace + 10_000) {
            throw new Error(
                `Cgroup ${path} keeps processes (${processes()}) that do not end; restart the machine.`,
            );
        }
        await sleep(20);
    }
}

/** What is mounted, the latest last: where, and the type of the file system (proc_pid_mountinfo(5)). */
export function mounted(): { path: string; type: string }[] {
    const lines = readFileSync("/proc/self/mountinfo", "utf8").trimEnd().split("\n");
    const character = (_: string, octal: string) => String.fromCharCode(Number.parseInt(octal, 8));
    return lines.map((line) => ({
        path: (line.split(" ")[4] ?? "").replace(/\\(\d{3})/g, character),
        type: line.split(" - ")[1]?.split(" ")[0] ?? "",
    }));
}

/** Where cgroups are mounted: each controller apart (version 1) or all together (version 2). */
function hierarchies(): { version: 1 | 2; mounts: string[] } {
    const all = mounted().filter(
        ({ path, type }) => path.startsWith("/sys/fs/cgroup") && /^cgroup2?$/.test(type),
    );
    if (all.length === 0)
        throw new Error("There are no cgroups at /sys/fs/cgroup; in a container, use --privileged.");
    // Both at once are version 1, with one more hierarchy that systemd and kubelet use.
    const version = all.some(({ type }) => type === "cgroup") ? 1 : 2;
    return { version, mounts: all.map(({ path }) => path) };
}

/** Version 2: children get only the controllers that the parent names, and a parent that names any has no processes. */
function delegateControllers(directory: string): void {
    // Only the machine's root has no type, and may keep its processes. A container's are moved, as docker-in-docker does.
    if (directory === "/sys/fs/cgroup" && existsSync(join(directory, "cgroup.type"))) {
        mkdirSync(join(directory, "init"), { recursive: true });
        for (const pid of processesIn(directory)) {
            attempt(() => writeFileSync(join(directory, "init", "cgroup.procs"), `${pid}`));
        }
    }
    const controllers = readFileSync(join(directory, "cgroup.controllers"), "utf8");
    for (const controller of controllers.match(/\S+/g) ?? []) {
        attempt(() => writeFileSync(join(directory, "cgroup.subtree_control"), `+${controller}`));
    }
}

/** A cgroup, if it is there, and all below it, deepest first. */
function withDescendants(directory: string): string[] {
    const entries = attempt(() => readdirSync(directory, { withFileTypes: true }));
    if (!entries) return [];
    const children = entries.filter((entry) => entry.isDirectory());
    return [...children.flatMap(({ name }) => withDescendants(join(directory, name))), directory];
}

function processesIn(directory: string): number[] {
    const lines = attempt(() => readFileSync(join(directory, "cgroup.procs"), "utf8")) ?? "";
    // 0 stands for a process of another PID namespace.
    return (lines.match(/^[1-9]\d*$/gm) ?? []).map(Number);
}

/** Processes and cgroups can go at any time by themselves. */
function attempt<T>(action: () => T): T | undefined {
    try {
        return action();
    } catch {
        return undefined;
    }
}
