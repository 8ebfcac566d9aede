import { randomBytes, randomInt } from "node:crypto";
import { once } from "node:events";
import { rmSync } from "node:fs";
import * as http from "node:http";
import { createServer, type Server } from "node:https";
import { connect, createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { type Certificate, certificateIn, writePrivate } from "./certificates";
import type { Processes } from "./processes";
import { issuerName, Refusal, type TokenIssuer, tokenEndpoints, unauthorized } from "./registry-tokens";

/** What a registry needs. */
export interface RegistrySpec extends Pick<TokenIssuer, "id" | "identity" | "access"> {
    /** Name of the registry, which names its process too. */
    name: string;
    /** Where images, configuration and the token key are kept; made if missing, and private. */
    directory: string;
    /** Port on 127.0.0.1 of the login server; one of `registryPorts`. */
    port: number;
    /** Path of the Unix socket between this process and the registry's, at most 107 characters. */
    socket: string;
    /** The `docker-registry` program (distribution 2.8 or later). */
    binary: string;
    /** Signs the registry's certificates; its clients trust it. */
    authority: Certificate;
    processes: Pick<Processes, "start" | "stop">;
}

export interface RunningRegistry {
    /** `127.0.0.1:<port>`, also for those who reach the registry by another address. */
    readonly loginServer: string;
    /** Answers on this address too, on the same port: the host's end of a cluster's network. */
    listen(address: string): Promise<void>;
    /** Ends that, and every connection to the address. */
    unlisten(address: string): void;
    /** Stops answering and ends the process; images stay. */
    stop(): Promise<void>;
    /** Stops and deletes everything in the directory. */
    destroy(): Promise<void>;
}

/** How many registries a sandbox can run; a cluster's node must know their ports before they are. */
export const portCount = 32;

/** The block of ports that registries use. */
export const registryPorts = (firstPort: number): number[] =>
    Array.from({ length: portCount }, (_, index) => firstPort + index);

/**
 * Finds a block of consecutive free ports and gives the first. Keep it: image names contain the port.
 * The search stays below NodePorts (from 30000) and the ports of outgoing connections (from 32768).
 */
export async function findFreePorts(): Promise<number> {
    const isFree = (port: number) =>
        new Promise<boolean>((resolve) => {
            const server = createTcpServer().once("error", () => resolve(false));
            server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
        });
    const blocks = Math.floor((30_000 - 20_000) / portCount);
    for (let tried = 0; tried < blocks; tried++) {
        // Not the first that is free: another sandbox may not have begun to use all of its own.
        const first = 20_000 + randomInt(blocks) * portCount;
        if ((await Promise.all(registryPorts(first).map(isFree))).every(Boolean)) return first;
    }
    throw new Error(
        `No ${portCount} free ports in a row between 20000 and 30000: end a program that listens there.`,
    );
}

/**
 * Starts the registry: the `docker-registry` process, which stores images and checks tokens, behind a TLS
 * server that issues tokens as Azure does. Throws if the port is taken or the process is not up in 20 s.
 */
export async function startRegistry(spec: RegistrySpec): Promise<RunningRegistry> {
    const { name, directory, port, socket, processes } = spec;
    const loginServer = `127.0.0.1:${port}`;
    const serving = { commonName: name, use: "server", names: ["127.0.0.1", "localhost"] } as const;
    const { certificate: cert, key } = await certificateIn(directory, "server", serving, spec.authority);
    const signer = { commonName: name, use: "tokens" } as const;
    const signing = await certificateIn(directory, "tokens", signer, spec.authority);
    const process = `registry-${name}`;
    const answer = answers(tokenEndpoints({ ...spec, loginServer, signing }), socket);
    const servers = new Map<string, Server>();
    const registry: RunningRegistry = {
        loginServer,
        async listen(address) {
            if (servers.has(address)) return;
            // A layer takes the time it takes; clients drop idle connections after 90 s, before we do.
            const timeouts = { requestTimeout: 0, keepAliveTimeout: 120_000 };
            const server = createServer({ cert, key, ...timeouts }, answer);
            await once(server.listen(port, address), "listening").catch((error) => {
                throw new Error(`Registry ${name} cannot listen, end what holds its port: ${error.message}`);
            });
            servers.set(address, server);
        },
        unlisten(address) {
            servers.get(address)?.close();
            servers.get(address)?.closeAllConnections();
            servers.delete(address);
        },
        async stop() {
            for (const address of servers.keys()) registry.unlisten(address);
            await processes.stop(process);
            rmSync(socket, { force: true });
        },
        async destroy() {
            await registry.stop();
            rmSync(directory, { recursive: true, force: true });
        },
    };
    await registry.listen("127.0.0.1");
    try {
        writePrivate(join(directory, "config.yml"), configuration(directory, loginServer, socket));
        // The secret seals uploads in progress; they end with the process.
        const env = { REGISTRY_HTTP_SECRET: randomBytes(32).toString("hex") };
        const args = ["serve", join(directory, "config.yml")];
        const ready = () => accepts(socket);
        await processes.start({ name: process, command: spec.binary, args, env, ready, readyWithin: 20_000 });
        return registry;
    } catch (error) {
        await registry.stop();
        throw error;
    }
}

/** The configuration of `docker-registry`, as YAML reads it: JSON. */
function configuration(directory: string, loginServer: string, socket: string): string {
    const realm = `https://${loginServer}/oauth2/token`;
    const rootcertbundle = join(directory, "tokens.crt");
    return JSON.stringify({
        version: "0.1",
        log: { level: "error", accesslog: { disabled: true } },
        storage: { filesystem: { rootdirectory: join(directory, "images") } },
        http: { net: "unix", addr: socket, host: `https://${loginServer}` },
        auth: { token: { realm, service: loginServer, issuer: issuerName, rootcertbundle } },
    });
}

/** Throws while nothing accepts connections on the socket. */
async function accepts(socket: string): Promise<boolean> {
    const connection = connect(socket);
    await once(connection, "connect").finally(() => connection.destroy());
    return true;
}

/** Answers token requests itself and hands the rest to the `docker-registry` process. */
function answers(endpoints: ReturnType<typeof tokenEndpoints>, socket: string) {
    const routes: Record<string, (form: URLSearchParams, authorization?: string) => object> = {
        "POST /oauth2/exchange": endpoints.exchange,
        "POST /oauth2/token": endpoints.token,
        "GET /oauth2/token": endpoints.tokenByPassword,
    };
    const route = async (request: http.IncomingMessage, response: http.ServerResponse) => {
        const [path = "", query] = (request.url ?? "").split("?");
        if (/^\/v2(\/|$)/.test(path)) return forward(request, response, socket);
        const form = new URLSearchParams(request.method === "POST" ? await text(request) : query);
        const answer = routes[`${request.method} ${path}`]?.(form, request.headers.authorization);
        if (!answer)
            throw new Refusal(404, "NOT_FOUND", `${request.method} ${path} is not part of a registry`);
        send(response, 200, answer);
    };
    return (request: http.IncomingMessage, response: http.ServerResponse) =>
        void route(request, response).catch((error) => {
            // The client may not show what it is told.
            if (!(error instanceof Refusal)) console.error(`${request.method} ${request.url}: ${error}`);
            if (response.headersSent) response.destroy();
            else
                refuse(
                    response,
                    error instanceof Refusal ? error : new Refusal(503, "UNAVAILABLE", `${error}`),
                );
        });
}

function send(response: http.ServerResponse, status: number, body: object, headers = {}): void {
    const content = JSON.stringify(body);
    const type = { "content-type": "application/json; charset=utf-8" };
    const length = { "content-length": Buffer.byteLength(content) };
    response.writeHead(status, { ...headers, ...type, ...length }).end(content);
}

function refuse(response: http.ServerResponse, { status, code, message }: Refusal, headers = {}): void {
    send(response, status, { errors: [{ code, message }] }, headers);
}

/** Streams a request to the process and the answer back; a 401 gets Azure's text. */
async function forward(
    request: http.IncomingMessage,
    response: http.ServerResponse,
    socketPath: string,
): Promise<void> {
    const { url: path, method } = request;
    // Told to close, the process answers a refused request and closes before it has read the body (Go, net/http); what is
    // then still sent fails with EPIPE, and the answer is lost.
    const headers = { ...request.headers, connection: "keep-alive" };
    const forwarded = http.request({ socketPath, path, method, headers, agent: false });
    forwarded.on("error", () => undefined);
    response.on("close", () => forwarded.destroy());
    request.pipe(forwarded);
    const [answer] = (await once(forwarded, "response")) as [http.IncomingMessage];
    const { connection: _, ...answered } = answer.headers;
    if (answer.statusCode === 401) {
        answer.resume();
        return refuse(response, unauthorized(), answered);
    }
    response.writeHead(answer.statusCode ?? 502, answered);
    await pipeline(answer, response);
}
