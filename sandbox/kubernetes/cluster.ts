import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { certificateIn, writePrivate } from "../certificates";
import { clear, type Processes, type ProcessSpec } from "../processes";
import { kubernetesCommands, type Tools } from "../tools";
import { connect, isReady, type KubernetesClient, type KubernetesObject } from "./client";
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
    tools: Pick<Tools, "kubernetes" | "packages">;
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
    for (const place of [directory, runDirectory]) mkdirSync(place, { recursive: true, mode: 0o700 });
    const stop = () =>
        clear(runDirectory, async () => {
            await Promise.all(programs.map((program) => processes.stop(`${name}-${program}`, 1000)));
            await processes.removeCgroup(`pods/${name}`);
            await disconnect({ id: processes.id, directory });
        });
    const destroy = async () => {
        await stop();
        rmSync(directory, { recursive: true, force: true });
    };
    try {
        const { ports } = spec.registry;
        const node = await makeNamespaces({ id: processes.id, directory, runDirectory, ports });
        const [config] = await Promise.all([
            makeCertificates(spec, node),
            spec.joined?.(node.gateway, node.node),
        ]);
        await startPrograms(spec, processes, node, connect(config, 0));
        return { kubeconfig: config, server: serverOf(node), gateway: node.gateway, stop, destroy };
    } catch (error) {
        await stop();
        throw error;
    }
}

const programs = [...kubernetesCommands, "containerd", "etcd"];

/** Makes what is missing or about to end, and a kubeconfig for each client; resolves to the administrator's. */
async function makeCertificates(spec: ClusterSpec, addresses: Addresses): Promise<string> {
    const { certificates } = placesOf(spec);
    const authority = await certificateIn(certificates, "ca", { commonName: "kubernetes", use: "authority" });
    const server = { commonName: "kube-apiserver", use: "server", names: serverNames(addresses) } as const;
    await certificateIn(certificates, "apiserver", server, authority);
    const place = (name: string) => join(certificates, `${name}.kubeconfig`);
    for (const [name, subject] of Object.entries(clients)) {
        const client = await certificateIn(certificates, name, { ...subject, use: "client" }, authority);
        const config = kubeconfig(spec.name, serverOf(addresses), authority.certificate, client);
        writePrivate(place(name), config);
    }
    return readFileSync(place("admin"), "utf8");
}

/** Starts all programs and resolves when the node is Ready. */
async function startPrograms(
    spec: ClusterSpec,
    processes: Processes,
    node: NodeNamespaces,
    client: KubernetesClient,
): Promise<void> {
    const since = Date.now();
    const { directory, tools } = spec;
    const places = placesOf(spec);
    const bin = join(tools.packages, "bin");
    const cgroup = processes.cgroup(`pods/${spec.name}`);
    // Overlay file systems cannot lie on one another, as they would in a container.
    const isOverlay = statfsSync(directory).type === overlayFileSystem;
    rmSync(places.hosts, { recursive: true, force: true });
    const files = filesOf(spec, node, { cgroup, snapshotter: isOverlay ? "native" : "overlayfs" });
    for (const [file, content] of Object.entries(files)) writePrivate(file, content);

    const start = (program: Program, more: Partial<ProcessSpec> = {}) => {
        const flags = Object.entries(flagsOf(spec, node)[program]).map(
            ([flag, value]) => `--${flag}=${value}`,
        );
        const { command = join(tools.kubernetes, program), args = [] } = more;
        const name = `${spec.name}-${program}`;
        return processes.start({ ...more, name, command, args: [...args, ...flags], namespaces: node });
    };
    // It makes its sockets where it runs, and does not replace old ones.
    const enter = 'cd "$0" && rm -f etcd:* && exec "$@"';
    const etcd = start("etcd", {
        command: "sh",
        args: ["-c", enter, spec.runDirectory, join(bin, "etcd")],
        ready: () => answers(places.etcd),
    });
    const control = etcd.then(() =>
        start("kube-apiserver", { ready: async () => !!(await client.call("GET", "/readyz")) }),
    );
    const runtime = start("containerd", {
        command: join(bin, "containerd"),
        // It finds its shims on PATH.
        env: { PATH: `${bin}:/usr/sbin:/usr/bin:/sbin:/bin` },
        ready: () => answers(places.containerd),
    }).then(() => importPauseImage(places.containerd, bin, directory));
    // All of them end in any case, so that what stops after a failure stops everything.
    const results = await Promise.allSettled([
        control.then(() => start("kube-controller-manager")),
        control.then(() => start("kube-scheduler")),
        control.then(() => start("kube-proxy")),
        Promise.all([control, runtime]).then(() =>
            start("kubelet", { ready: () => isNodeReady(client, since) }),
        ),
    ]);
    for (const result of results) if (result.status === "rejected") throw result.reason;
}

/** The container that holds a pod's namespaces only has to stay: busybox does, and needs no download. */
async function importPauseImage(address: string, bin: string, directory: string): Promise<void> {
    const config = {
        architecture: process.arch === "x64" ? "amd64" : process.arch,
        os: "linux",
        config: { Cmd: ["/busybox", "sh", "-c", "trap exit TERM; sleep 2147483647 & wait"] },
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
    const cwd = mkdtempSync(join(directory, "pause-image-"));
    const texts = { config: JSON.stringify(config), manifest: JSON.stringify(manifest) };
    await run("sh", ["-ec", script], { cwd, env: { PATH: process.env.PATH, address, bin, ...texts } });
    rmSync(cwd, { recursive: true });
}

/** Whether the node and its pods are as they are now: the API server still has what kubelet said before the last stop. */
async function isNodeReady(client: KubernetesClient, since: number): Promise<boolean> {
    const { spec, status } = await client.call("GET", `/api/v1/nodes/${nodeName}`);
    const { items } = await client.call("GET", "/api/v1/pods");
    const isNew = (time: string) => Date.parse(time) > since - 1000;
    const isPodKnown = ({ status }: KubernetesObject) =>
        !isReady(status) ||
        !status.containerStatuses?.some(
            ({ state }: KubernetesObject) => state.running && !isNew(state.running.startedAt),
        );
    const heartbeat = status.conditions.find(({ type }: KubernetesObject) => type === "Ready");
    return (
        isReady(status) &&
        isNew(heartbeat.lastHeartbeatTime) &&
        !spec.taints?.length &&
        items.every(isPodKnown)
    );
}

/** True where something listens on the socket. */
async function answers(socket: string): Promise<boolean> {
    const client = createConnection(socket);
    await once(client, "connect");
    client.destroy();
    return true;
}
