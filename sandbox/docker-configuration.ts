import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { writePrivate } from "./certificates";

/** What docker logs in to a registry with. */
export interface Credentials {
    username: string;
    password: string;
}

/** Docker's configuration, as far as logins go ("docker login", Credential stores and Credential helpers). */
interface Configuration {
    /** By server; `auth` is `<user>:<password>` in base64. */
    auths?: Record<string, { auth?: string }>;
    /** Ending of the program's name that has all credentials. */
    credsStore?: string;
    /** The same, by server. */
    credHelpers?: Record<string, string>;
}

/** How docker calls Docker Hub in its configuration. */
const hub = "https://index.docker.io/v1/";

/**
 * What docker would log in to a registry with, or undefined where it would not.
 *
 * @param directory of the configuration, what DOCKER_CONFIG names.
 * @param server host and port of the registry; `docker.io` is Docker Hub.
 * @throws Error with what a credential helper says that fails.
 */
export async function credentialsFor(directory: string, server: string): Promise<Credentials | undefined> {
    const { auths = {}, credHelpers = {}, credsStore } = read(directory);
    const name = server === "docker.io" ? hub : server;
    const helper = credHelpers[name] ?? credsStore;
    if (helper) return askHelper(helper, name);
    const host = (key: string) => key.replace(/^https?:\/\//, "").replace(/\/.*$/, "");
    const [, login] = Object.entries(auths).find(([key]) => key === name || host(key) === name) ?? [];
    const [, username, password] = /^([^:]+):(.+)$/.exec(decoded(login?.auth)) ?? [];
    return username && password ? { username, password } : undefined;
}

/** Keeps a login in the configuration itself, readable by its owner only, as `docker login` does without a store. */
export function saveCredentials(
    directory: string,
    server: string,
    { username, password }: Credentials,
): void {
    const configuration = read(directory);
    const auth = Buffer.from(`${username}:${password}`).toString("base64");
    const auths = { ...configuration.auths, [server]: { auth } };
    writePrivate(fileIn(directory), JSON.stringify({ ...configuration, auths }, undefined, 2));
}

const fileIn = (directory: string) => join(directory, "config.json");
const decoded = (base64 = "") => Buffer.from(base64, "base64").toString();

function read(directory: string): Configuration {
    return existsSync(fileIn(directory)) ? JSON.parse(readFileSync(fileIn(directory), "utf8")) : {};
}

/** Runs `docker-credential-<helper> get` ("docker-credential-helpers", Development). */
async function askHelper(helper: string, server: string): Promise<Credentials | undefined> {
    const program = `docker-credential-${helper}`;
    const failed = (why: string) => new Error(`${program} gives no login for ${server}: ${why}`);
    const child = spawn(program, ["get"], { env: process.env, stdio: ["pipe", "pipe", "ignore"] });
    const ended = new Promise<number | null>((resolve, reject) => {
        child.on("error", (error) => reject(failed(error.message))).on("close", resolve);
    });
    // It may end without having read.
    child.stdin.on("error", () => undefined).end(server);
    const [code, output] = await Promise.all([ended, text(child.stdout)]);
    if (code === 0) {
        const { Username: username, Secret: password } = JSON.parse(output);
        return { username, password };
    }
    if (output.trim() === "credentials not found in native keychain") return undefined;
    throw failed(output.trim());
}
