import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Report } from "./progress";

/** The directory of everything that is fetched or built once for this user of the machine. */
export function cacheDirectory(): string {
    return join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "aks-acr");
}

/** Where the output of the commands that fill `name` goes. */
export const logOf = (name: string) => join(cacheDirectory(), "logs", `${name}.log`);

/** Fills a new directory of the cache. */
export type Make = (directory: string, report: Report) => Promise<void>;

/** The cache's directory of that name; where there is none, `make` fills one beside it, which then takes its name. */
export async function cached(name: string, report: Report, make: Make): Promise<string> {
    const directory = join(cacheDirectory(), name);
    await locked(name, report, async () => {
        if (existsSync(directory)) return;
        const partial = `${directory}.partial`;
        await rm(partial, { recursive: true, force: true });
        await mkdir(partial, { recursive: true });
        await make(partial, report);
        await rename(partial, directory);
    });
    return directory;
}

/**
 * Runs `work` while nobody else, here or in another process, holds the lock of that name. The kernel frees the lock
 * when its holder ends, and the holder ends with this process, however that ends: its input closes.
 */
export async function locked<T>(name: string, report: Report, work: () => Promise<T>): Promise<T> {
    const file = join(cacheDirectory(), "locks", name);
    await mkdir(join(file, ".."), { recursive: true, mode: 0o700 });
    const holder = spawn("flock", [file, "sh", "-c", "echo; exec cat"], {
        stdio: ["pipe", "pipe", "ignore"],
        detached: true,
    });
    await once(holder, "spawn");
    const waiting = setTimeout(() => report("waits for its turn"), 300);
    const [answer] = await Promise.race([once(holder.stdout, "data"), once(holder, "exit")]);
    clearTimeout(waiting);
    if (!Buffer.isBuffer(answer))
        throw new Error(`flock cannot lock ${file}. See whether it can be written to.`);
    try {
        return await work();
    } finally {
        holder.stdin.end();
    }
}
