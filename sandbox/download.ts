import { createHash } from "node:crypto";
import { createWriteStream, existsSync, statSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { EnvHttpProxyAgent, fetch } from "undici";
import { cacheDirectory } from "./cache";
import type { Report } from "./progress";

const patience = 3000;
const hour = 3_600_000;

/** Asks through the proxy that HTTPS_PROXY names, if any. */
async function get(url: string, options: { method?: string; signal?: AbortSignal } = {}) {
    return fetch(url, { ...options, dispatcher: new EnvHttpProxyAgent() }).catch((error) => {
        throw new Error(
            `${url} cannot be reached (${error.cause?.message ?? error.message}). Run the command again.`,
        );
    });
}

/**
 * Whether a file can be downloaded, asked with 3 s of patience. That its host does not answer, or refuses, is
 * remembered for an hour; `accept` says which statuses are no refusal.
 */
export async function reachable(url: string, accept = [200]): Promise<boolean> {
    const { host } = new URL(url);
    const memory = join(cacheDirectory(), "out-of-reach", host);
    if (existsSync(memory) && Date.now() - statSync(memory).mtimeMs < hour) return false;
    const status = await get(url, { method: "HEAD", signal: AbortSignal.timeout(patience) }).then(
        (response) => response.status,
        () => 0,
    );
    if (accept.includes(status) || status === 404) return status !== 404;
    await mkdir(join(memory, ".."), { recursive: true });
    await writeFile(memory, `It answered ${status || "nothing"}; delete this file to have it asked again.\n`);
    return false;
}

/** The SHA-256 of a file in a list as `sha256sum` writes it; in a list of one, the only one. */
export function checksumOf(list: string, file: string): string | undefined {
    const lines = list
        .trim()
        .split("\n")
        .map((line) => line.trim().split(/\s+\*?/));
    return lines.find(([, name]) => name === file || (name === undefined && lines.length === 1))?.[0];
}

/** Downloads a file; throws if it differs from the checksum in the list at `checksums`, if there is such a list. */
export async function download(url: string, file: string, report: Report, checksums?: string): Promise<void> {
    const list = checksums === undefined ? undefined : await get(checksums);
    const response = await get(url);
    if (!response.ok || !response.body)
        throw new Error(`${url} answers ${response.status}. Run the command again later.`);
    const digest = createHash("sha256");
    const total = Number(response.headers.get("content-length") ?? 0);
    let done = 0;
    const count = async function* (chunks: AsyncIterable<Uint8Array>) {
        for await (const chunk of chunks) {
            digest.update(chunk);
            done += chunk.length;
            report(`downloads ${Math.round(done / 1e6)} of ${Math.round(total / 1e6)} MB`);
            yield chunk;
        }
    };
    await pipeline(response.body, count, createWriteStream(file));
    const name = new URL(url).pathname.split("/").at(-1) ?? "";
    if (list && list.status !== 404 && checksumOf(await list.text(), name) !== digest.digest("hex"))
        throw new Error(
            `${url} does not match ${checksums}. Run the command again; if it stays so, do not use it.`,
        );
}
