import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { reachable } from "./download";
import { standInLabel } from "./nginx";
import { type Processes, unmountBelow } from "./processes";
import { nginxImage, type Tools } from "./tools";

/** A Docker daemon. */
export interface Docker {
    /** The socket of its API. */
    socketPath: string;
    /** Whether the sandbox started it. */
    own: boolean;
    /** Ends it if the sandbox started it; its images stay for the next start. */
    stop(): Promise<void>;
}

/** Whether a Docker daemon runs on this machine that the sandbox can use. */
export async function dockerAnswers(): Promise<boolean> {
    return (await runningDocker()) !== undefined;
}

/** The socket of DOCKER_HOST, or of the machine's daemon, if a daemon answers there that reaches this machine's loopback. */
async function runningDocker(): Promise<string | undefined> {
    const host = process.env.DOCKER_HOST || "unix:///var/run/docker.sock";
    const [, socketPath] = /^unix:\/\/(.+)$/.exec(host) ?? [];
    return socketPath && (await answers(socketPath)) && (await reachesLoopback(socketPath))
        ? socketPath
        : undefined;
}

const answers = (socketPath: string) =>
    call(socketPath, "GET", "/_ping").then(
        ({ status }) => status === 200,
        () => false,
    );

/**
 * Whether a daemon shares this machine's network, where the registries listen: one in a virtual machine, or outside of
 * the container that this runs in, does not. It is asked to pull from a port here; that the call arrives is the answer.
 */
async function reachesLoopback(socketPath: string): Promise<boolean> {
    const server = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const called = once(server, "connection").then(() => true);
    const path = `/images/create?fromImage=127.0.0.1:${port}/probe&tag=probe`;
    const failed = call(socketPath, "POST", path).catch(() => undefined);
    const reached = await Promise.race([called, failed.then(() => false)]);
    server.close();
    return reached;
}

/** Calls the API of a daemon; resolves to the status and the whole body. */
async function call(socketPath: string, method: string, path: string, body?: Readable) {
    const headers = body ? { "content-type": "application/x-tar" } : {};
    const outgoing = request({ socketPath, method, path, headers, agent: false, timeout: 30_000 });
    outgoing.on("timeout", () =>
        outgoing.destroy(new Error(`The Docker daemon at ${socketPath} does not answer.`)),
    );
    if (body) body.pipe(outgoing);
    else outgoing.end();
    const [response] = await once(outgoing, "response");
    return { status: response.statusCode as number, body: await text(response) };
}

/** What `startDocker` is given. */
export interface DockerOptions {
    tools: Pick<Tools, "packages">;
    processes: Pick<Processes, "start" | "stop" | "cgroup" | "removeCgroup">;
    /** Where a daemon of the sandbox's own keeps its images. */
    directory: string;
    /** Where it has its sockets. */
    runDirectory: string;
}

/** The socket that a daemon of the sandbox's own has. */
export const ownSocket = (runDirectory: string) => join(runDirectory, "docker", "docker.sock");

/**
 * The daemon that runs on this machine; where none does, one of the sandbox's own with its own containerd: no bridge, no
 * firewall rules, no port, nothing outside `directory` and `runDirectory`. Throws where it does not start.
 */
export async function startDocker(options: DockerOptions): Promise<Docker> {
    const { tools, processes, directory } = options;
    const running = await runningDocker();
    if (running) return { socketPath: running, own: false, stop: async () => undefined };
    const bin = join(tools.packages, "bin");
    if (!existsSync(join(bin, "dockerd")))
        throw new Error("The Docker daemon is gone. Start it again, or run npm stop and npm start.");
    const runDirectory = join(options.runDirectory, "docker");
    const place = (name: string) => join(runDirectory, name);
    const [containerdSocket, socketPath] = [place("containerd.sock"), ownSocket(options.runDirectory)];
    // Of a start that failed.
    rmSync(runDirectory, { recursive: true, force: true });
    mkdirSync(runDirectory, { recursive: true, mode: 0o700 });
    const containerd = [
        "version = 2",
        `root = "${join(directory, "containerd")}"`,
        `state = "${place("containerd")}"`,
        // What would listen on a port, or make directories outside of its own.
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]',
        `[grpc]\naddress = "${containerdSocket}"\n`,
    ].join("\n");
    writeFileSync(place("containerd.toml"), containerd);
    // Of its own, or dockerd takes the machine's /etc/docker/daemon.json.
    writeFileSync(place("daemon.json"), "{}");
    const args = [
        `--config-file=${place("daemon.json")}`,
        `--containerd=${containerdSocket}`,
        `--data-root=${join(directory, "data")}`,
        `--exec-root=${place("exec")}`,
        `--pidfile=${place("docker.pid")}`,
        `--host=unix://${socketPath}`,
        "--group=root",
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--userland-proxy=false",
        // On a machine with systemd it would ask that for cgroups.
        "--exec-opt=native.cgroupdriver=cgroupfs",
        `--cgroup-parent=${processes.cgroup("docker")}`,
    ];
    // The rest of this process's environment says how to get out: proxies, certificates.
    const PATH = `${bin}:${process.env.PATH}:/usr/sbin:/sbin`;
    const env = { ...process.env, PATH } as Record<string, string>;
    const stop = async () => {
        await processes.stop("dockerd");
        await processes.stop("docker-containerd");
        await processes.removeCgroup("docker");
        await unmountBelow(directory, runDirectory);
    };
    const run = (name: string, program: string, programArgs: string[], ready: () => Promise<boolean>) =>
        processes.start({ name, command: join(bin, program), args: programArgs, env, ready });
    try {
        const config = [`--config=${place("containerd.toml")}`];
        await run("docker-containerd", "containerd", config, async () => existsSync(containerdSocket));
        await run("dockerd", "dockerd", args, () => answers(socketPath));
    } catch (error) {
        await stop();
        throw error;
    }
    return { socketPath, own: true, stop };
}

/**
 * Makes sure that a build can start from the image `reference`, e.g. `nginx:1.29`. What the daemon has, or can pull,
 * is left as it is. Where Docker Hub is out of reach nginx gets a stand-in with that name, made from the
 * distribution's packages; throws for any other image.
 */
export async function ensureBaseImage({ socketPath }: Docker, reference: string): Promise<void> {
    const image = await inspect(socketPath, reference);
    if (image && !isStandIn(image)) return;
    const { server, repository, version } = imageReference(reference);
    if (server !== "docker.io") return;
    if (await reachable("https://registry-1.docker.io/v2/", [200, 401])) {
        if (image) await untag(socketPath, reference);
        return;
    }
    if (image) return;
    if (repository !== "library/nginx" || reference.includes("@"))
        throw new Error(
            `Docker Hub is out of reach and the Docker daemon does not have ${reference}. Load it there (docker load), or build on nginx with a tag.`,
        );
    await load(socketPath, `nginx:${version}`, await nginxImage());
}

/** Removes the stand-in that `ensureBaseImage` put into a daemon that is not the sandbox's own. */
export async function removeBaseImage({ socketPath, own }: Docker, reference: string): Promise<void> {
    const image = own ? undefined : await inspect(socketPath, reference);
    if (image && isStandIn(image)) await untag(socketPath, reference);
}

/** Where an image is: what its name means to docker. */
export interface ImageReference {
    /** Host and port; `docker.io` where the name has none. */
    server: string;
    /** With `library/` in front for Docker Hub's own. */
    repository: string;
    /** The digest where there is one, else the tag. Default: `latest`. */
    version: string;
}

/** Takes an image's name apart, such as `nginx:1.29` or `127.0.0.1:5000/nginx@sha256:...`. */
export function imageReference(name: string): ImageReference {
    const [, path = "", tag = "latest", digest] = /^(.*?)(?::([^:/@]+))?(?:@(.+))?$/.exec(name) ?? [];
    const version = digest ?? tag;
    // Without a dot, a colon or being localhost, what is before the first slash is no host.
    const [, host, rest = path] = /^([^/]*[.:][^/]*|localhost)\/(.+)$/.exec(path) ?? [];
    if (host && host !== "docker.io") return { server: host, repository: rest, version };
    return { server: "docker.io", repository: rest.includes("/") ? rest : `library/${rest}`, version };
}

interface Image {
    Config?: { Labels?: Record<string, string> | null };
}

const isStandIn = (image: Image) => image.Config?.Labels?.[standInLabel] === "true";

async function inspect(socketPath: string, reference: string): Promise<Image | undefined> {
    const { status, body } = await call(socketPath, "GET", `/images/${reference}/json`);
    return status === 200 ? JSON.parse(body) : undefined;
}

/** Takes a name from an image; what was built on the image keeps its layers. */
async function untag(socketPath: string, reference: string): Promise<void> {
    await call(socketPath, "DELETE", `/images/${reference}?noprune=1`);
}

/** Loads the image in `directory` under a name, as `docker load` would. */
async function load(socketPath: string, reference: string, directory: string): Promise<void> {
    const manifest = [{ Config: "config.json", RepoTags: [reference], Layers: ["layer.tar"] }];
    const temporary = await mkdtemp(join(tmpdir(), "aks-acr-"));
    await writeFile(join(temporary, "manifest.json"), JSON.stringify(manifest));
    const args = ["-c", "-C", temporary, "manifest.json", "-C", directory, "config.json", "layer.tar"];
    const tar = spawn("tar", args, { stdio: ["ignore", "pipe", "inherit"] });
    const { body } = await call(socketPath, "POST", "/images/load?quiet=1", tar.stdout);
    await rm(temporary, { recursive: true });
    if (!(await inspect(socketPath, reference)))
        throw new Error(`The Docker daemon does not load ${reference}: ${body.trim()} See its log.`);
}
