import { type ChildProcess, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { join } from "node:path";
import { cached, logOf } from "../../sandbox/cache";
import { type Report, run } from "../../sandbox/progress";

// Azure Storage's emulator, for blobs: a container to keep stacks in, as a storage account has it.

/** Every emulator's account and key: published ("Use the Azurite emulator for local Azure Storage development"), no secret. */
const account = "devstoreaccount1";
const key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

const version = "3.35.0";

/** Puts the emulator into the cache: its 350 packages are no part of what the program needs. */
async function install(directory: string, report: Report): Promise<void> {
    const manners = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
    await run("npm", ["install", "--prefix", directory, ...manners, `azurite@${version}`], {
        ...{ cwd: directory, log: logOf("azurite"), report, environment: {} },
        advice: "See that the npm registry can be reached.",
    });
}

/** A container that stacks are kept in. */
export interface StateContainer {
    /** What takes `pulumi` there. */
    environment: { PULUMI_BACKEND_URL: string; AZURE_STORAGE_ACCOUNT: string; AZURE_STORAGE_KEY: string };
    /** Names of its blobs. */
    names(): Promise<string[]>;
    /** What a blob holds. */
    read(name: string): Promise<string>;
    /** Ends the emulator; what it held is gone. */
    stop(): void;
}

/** Starts an emulator on a free port of this machine, with an empty container. Nothing is written to disk or reported. */
export async function startAzurite(): Promise<StateContainer> {
    const directory = await cached(`azurite-${version}`, () => undefined, install);
    const main = join(directory, "node_modules", "azurite", "dist", "src", "blob", "main.js");
    const place = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"];
    const manners = ["--silent", "--disableTelemetry", "--skipApiVersionCheck"];
    const emulator = spawn(process.execPath, ["--import", endsWithParent, main, ...place, ...manners], {
        stdio: ["pipe", "pipe", "inherit"],
    });
    const domain = await listening(emulator);
    const call = async (path: string, parameters: string, method = "GET") => {
        const url = `http://${domain}/${account}/state${path}?${parameters}&${accessSignature()}`;
        const answer = await fetch(url, { method });
        if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
        return await answer.text();
    };
    await call("", "restype=container", "PUT");
    return {
        environment: {
            PULUMI_BACKEND_URL: `azblob://state?domain=${domain}&protocol=http`,
            // A key is taken for the account that is named here, not for one in the address.
            AZURE_STORAGE_ACCOUNT: account,
            AZURE_STORAGE_KEY: key,
        },
        async names() {
            const list = await call("", "restype=container&comp=list");
            return [...list.matchAll(/<Name>(.*?)<\/Name>/g)].map(([, name = ""]) => name);
        },
        read: (name) => call(`/${name}`, ""),
        stop: () => emulator.kill("SIGKILL"),
    };
}

/** A module that ends a process when its standard input does: also when whoever started it was killed. */
const endsWithParent = "data:text/javascript,process.stdin.resume().on('end', () => process.exit())";

/** Resolves to the host and port that the emulator says; goes on reading, so that it can go on writing. */
function listening(emulator: ChildProcess): Promise<string> {
    let output = "";
    return new Promise((resolve, reject) => {
        emulator.stdout?.on("data", (text) => {
            output += text;
            const domain = / listens on http:\/\/(\S+)\n/.exec(output)?.[1];
            if (domain) resolve(domain);
        });
        emulator.on("exit", (code) => reject(new Error(`the emulator ended with ${code}:\n${output}`)));
    });
}

/** Lets a request do all there is with blobs, for an hour ("Create an account SAS"). */
function accessSignature(): string {
    const [permissions, services, types, apiVersion] = ["rwdlc", "b", "co", "2020-12-06"];
    const expiry = new Date(Date.now() + 3_600_000).toISOString().replace(/\.\d+/, "");
    const signed = [account, permissions, services, types, "", expiry, "", "", apiVersion, "", ""].join("\n");
    const signature = createHmac("sha256", Buffer.from(key, "base64")).update(signed).digest("base64");
    const parameters = {
        sp: permissions,
        ss: services,
        srt: types,
        se: expiry,
        sv: apiVersion,
        sig: signature,
    };
    return new URLSearchParams(parameters).toString();
}
