import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statfsSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { Agent, type Dispatcher, request } from "undici";
import { type Certificate, certificateIn, writePrivate } from "../certificates";
import { type Processes, shimSockets, unmountBelow } from "../processes";
import {
    clients,
    filesOf,
    flagsOf,
    kubeconfig,
    nodeName,
    type Program,
    pauseImage,
    placesOf,
    serverNames,
    serverOf,
} from "./configuration";
import { type Addresses, disconnect, makeNamespaces, type NodeNamespaces } from "./network";

const run = promisify(execFile);

/** What a cluster is made from. */
export interface ClusterSpec {
    /** Unique in the sandbox; lowercase letters, digits and hyphens. */
    name: string;
    /** Everything that survives `stop`. */
    directory: string;
    /** Sockets and what else ends with the processes; below /run, at most 70 characters. */
    runDirectory: string;
    tools: {
        /** Directory of kube-apiserver, kube-controller-manager, kube-scheduler, kubelet and kube-proxy. */
        kubernetes: string;
        /** Directory with `bin/` (containerd and its shims, ctr, runc, etcd, busybox) and `cni/`. */
        packages: string;
    };
    registry: {
        /** Login servers are `127.0.0.1:<port>`; in the cluster these ports lead to the host's end of its network. */
        ports: number[];
        /** PEM file of the authority that their certificates come from. */
        certificateAuthority: string;
    };
    /** Kubelet asks this program for registry credentials; it must be there when `joined` resolves. */
    credentialProvider: { executable: string; env: Record<string, string> };
    /** Kubeconfig of the webhook that the API server asks about bearer tokens; must be there when `joined` resolves. */
    tokenReview: string;
    /**
     * Called as soon as the network is up, before the node starts: the time to make what it needs listen at the gateway.
     * What comes from the node itself, not from a pod, comes from the second address.
     */
    joined?: (gateway: string, node: string) => Promise<void> | void;
}

/** A cluster of one node that is Ready. */
export interface Cluster {
    /** Kubeconfig of a cluster administrator, with a client certificate; for use on the host. */
    kubeconfig: string;
    /** URL of the API server. */
    server: string;
    /** Address of the host in the cluster's network. */
    gateway: string;
    /** Ends the cluster and its pods. Its data stays: the next start brings the same pods back. */
    stop(): Promise<void>;
    /** Stops it and deletes its data. */
    destroy(): Promise<void>;
}

const longestSocketDirectory = 70;
const overlayFileSystem = 0x794c7630;

/**
 * Starts a cluster (etcd, API server, controller manager, scheduler, containerd, kubelet, kube-proxy) in namespaces of
 * its own. Resolves when its node is Ready and says of no pod of an earlier run that it still is. Throws with the last
 * lines of the process that failed; then everything is stopped.
 *
 * The host reaches pods and Services by their IP addresses; its firewall is not touched. There is no DNS Service, and no
 * way to the internet.
 */
export async function startCluster(spec: ClusterSpec, processes: Processes): Promise<Cluster> {
    const { name, directory, runDirectory } = spec;
    if (runDirectory.length > longestSocketDirectory)
        throw new Error(`${runDirectory} is too long for sockets; choose a shorter name.`);
    for (const place of [directory, runDirectory]) mkdirSync(place, { recursive: true, mode: 0o700 });
    const stop = async () => {
        const sockets = await shimSockets(runDirectory);
        await Promise.all(programs.map((program) => processes.stop(`${name}-${program}`, 1000)));
        await processes.removeCgroup(`pods/${name}`);
        for (const socket of sockets) rmSync(socket, { force: true });
        await disconnect({ id: processes.id, directory });
        await unmountBelow(runDirectory);
        rmSync(runDirectory, { recursive: true, force: true });
    };
    const destroy = async () => {
        await stop();
        rmSync(directory, { recursive: true, force: true });
    };
    try {
        const { ports } = spec.registry;
        const node = await makeNamespaces({ id: processes.id, directory, runDirectory, ports });
        const [credentials] = await Promise.all([
            makeCertificates(spec, node),
            spec.joined?.(node.gateway, node.node),
        ]);
        await new Start(spec, processes, node, credentials).all();
        const { authority, admin } = credentials;
        const server = serverOf(node);
        const config = kubeconfig(name, server, authority.certificate, admin);
        return { kubeconfig: config, server, gateway: node.gateway, stop, destroy };
    } catch (error) {
        await stop();
        throw error;
    }
}

const programs: Program[] = [
    "kubelet",
    "kube-proxy",
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
    "containerd",
    "etcd",
];

interface Credentials {
    authority: Certificate;
    admin: Certificate;
}

/** Makes what is missing or about to end, and a kubeconfig for each client. */
async function makeCertificates(spec: ClusterSpec, addresses: Addresses): Promise<Credentials> {
    const { certificates } = placesOf(spec);
    const authority = await certificateIn(certificates, "ca", { commonName: "kubernetes", use: "authority" });
    const server = { commonName: "kube-apiserver", use: "server", names: serverNames(addresses) } as const;
    await certificateIn(certificates, "apiserver", server, authority);
    let admin = authority;
    for (const [name, subject] of Object.entries(clients)) {
        const client = await certificateIn(certificates, name, { ...subject, use: "client" }, authority);
        const config = kubeconfig(spec.name, serverOf(addresses), authority.certificate, client);
        writePrivate(join(certificates, `${name}.kubeconfig`), config);
        if (name === "admin") admin = client;
    }
    return { authority, admin };
}

/** One start of a cluster. */
class Start {
    private readonly places: ReturnType<typeof placesOf>;
    private readonly bin: string;
    private readonly dispatcher: Dispatcher;
    private readonly since = Date.now();

    constructor(
        private readonly spec: ClusterSpec,
        private readonly processes: Processes,
        private readonly node: NodeNamespaces,
        { authority, admin }: Credentials,
    ) {
        this.places = placesOf(spec);
        this.bin = join(spec.tools.packages, "bin");
        this.dispatcher = new Agent({
            connect: { ca: authority.certificate, cert: admin.certificate, key: admin.key },
            headersTimeout: 5000,
        });
    }

    async all(): Promise<void> {
        const { directory, tools } = this.spec;
        const cgroup = this.processes.cgroup(`pods/${this.spec.name}`);
        // Overlay file systems cannot lie on one another, as they would in a container.
        const isOverlay = statfsSync(directory).type === overlayFileSystem;
        rmSync(this.places.hosts, { recursive: true, force: true });
        const files = filesOf(this.spec, this.node, {
            cgroup,
            snapshotter: isOverlay ? "native" : "overlayfs",
        });
        for (const [file, content] of Object.entries(files)) writePrivate(file, content);

        const kubernetes = (program: Program, ready?: () => Promise<boolean>) =>
            this.start(program, [join(tools.kubernetes, program)], ready);
        const control = this.startEtcd().then(() =>
            kubernetes("kube-apiserver", async () => (await this.get("/readyz")) === "ok"),
        );
        const runtime = this.startContainerd();
        // All of them end in any case, so that what stops after a failure stops everything.
        const results = await Promise.allSettled([
            control.then(() => kubernetes("kube-controller-manager")),
            control.then(() => kubernetes("kube-scheduler")),
            control.then(() => kubernetes("kube-proxy")),
            Promise.all([control, runtime]).then(() => kubernetes("kubelet", () => this.isReady())),
        ]);
        for (const result of results) if (result.status === "rejected") throw result.reason;
        await this.dispatcher.close();
    }

    private startEtcd(): Promise<void> {
        // It makes its sockets where it runs, and does not replace old ones.
        const enter = 'cd "$0" && rm -f etcd:* && exec "$@"';
        const command = ["sh", "-c", enter, this.spec.runDirectory, join(this.bin, "etcd")];
        return this.start("etcd", command, () => answers(this.places.etcd));
    }

    private async startContainerd(): Promise<void> {
        // It finds its shims on PATH.
        const env = { PATH: `${this.bin}:/usr/sbin:/usr/bin:/sbin:/bin` };
        const command = [join(this.bin, "containerd")];
        await this.start("containerd", command, () => answers(this.places.containerd), env);
        await this.importPauseImage();
    }

    /** The container that holds a pod's namespaces only has to stay: busybox does, and needs no download. */
    private async importPauseImage(): Promise<void> {
        const done = join(this.spec.directory, "containerd", "pause-image");
        if (existsSync(done)) return;
        const platform = { architecture: process.arch === "x64" ? "amd64" : process.arch, os: "linux" };
        const wait = ["/busybox", "sh", "-c", "trap exit TERM; sleep 2147483647 & wait"];
        const config = {
            ...platform,
            config: { Cmd: wait },
            rootfs: { type: "layers", diff_ids: ["LAYER"] },
        };
        const manifest = [{ Config: "config.json", RepoTags: [pauseImage], Layers: ["layer.tar"] }];
        const script = `
            tar -C "$bin" -cf layer.tar busybox
            echo "$config" | sed "s/LAYER/sha256:$(sha256sum layer.tar | cut -c 1-64)/" > config.json
            echo "$manifest" > manifest.json
            tar -cf image.tar manifest.json config.json layer.tar
            "$bin/ctr" --address "$address" --namespace k8s.io images import image.tar
        `;
        const cwd = mkdtempSync(join(this.spec.directory, "pause-image-"));
        const env = {
            PATH: process.env.PATH,
            address: this.places.containerd,
            bin: this.bin,
            config: JSON.stringify(config),
            manifest: JSON.stringify(manifest),
        };
        await run("sh", ["-ec", script], { cwd, env });
        rmSync(cwd, { recursive: true });
        writePrivate(done, "");
    }

    private start(
        program: Program,
        [command = "", ...args]: string[],
        ready: () => Promise<boolean> = async () => true,
        env: Record<string, string> = {},
    ): Promise<void> {
        const { network, mounts } = this.node;
        for (const [flag, value] of Object.entries(flagsOf(this.spec, this.node)[program]))
            args.push(`--${flag}=${value}`);
        const name = `${this.spec.name}-${program}`;
        return this.processes.start({ name, command, args, env, network, mounts, ready });
    }

    private async isReady(): Promise<boolean> {
        const { spec, status } = (await this.get(`/api/v1/nodes/${nodeName}`)) as NodeObject;
        const { items } = (await this.get("/api/v1/pods")) as { items: PodObject[] };
        // The API server still has what kubelet said before the last stop.
        const isNew = (time = "") => Date.parse(time) > this.since - 1000;
        const isPodKnown = ({ status }: PodObject) =>
            !isTrue(status.conditions) ||
            !status.containerStatuses?.some(({ state }) => state.running && !isNew(state.running.startedAt));
        const heartbeat = status.conditions?.find(({ type }) => type === "Ready")?.lastHeartbeatTime;
        return (
            isTrue(status.conditions) && isNew(heartbeat) && !spec.taints?.length && items.every(isPodKnown)
        );
    }

    /** Asks the API server. Throws where the answer is not 200. */
    private async get(path: string): Promise<unknown> {
        const { statusCode, body } = await request(`${serverOf(this.node)}${path}`, {
            dispatcher: this.dispatcher,
        });
        const text = await body.text();
        if (statusCode !== 200) throw new Error(`${path}: ${statusCode} ${text}`);
        return text.startsWith("{") ? JSON.parse(text) : text;
    }
}

interface Condition {
    type: string;
    status: string;
    lastHeartbeatTime?: string;
}
interface NodeObject {
    spec: { taints?: unknown[] };
    status: { conditions?: Condition[] };
}
interface PodObject {
    status: {
        conditions?: Condition[];
        containerStatuses?: { state: { running?: { startedAt: string } } }[];
    };
}

const isTrue = (conditions: Condition[] = []) =>
    conditions.some(({ type, status }) => type === "Ready" && status === "True");

/** True where something listens on the socket. */
function answers(socket: string): Promise<boolean> {
    return new Promise((resolve) => {
        const client = connect(socket, () => resolve(true)).once("error", () => resolve(false));
        client.once("connect", () => client.destroy());
    });
}
