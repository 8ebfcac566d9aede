import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Blocks of 1,024 addresses in 10.224.0.0/12, where AKS puts its virtual network and its pods by default. */
const blockCount = 1024;
const start = parse("10.224.0.0");

/** A cluster's addresses: one block that no route of the host touches. */
export type Addresses = ReturnType<typeof addressesOf>;

/** The addresses of a block. */
export function addressesOf(block: number) {
    const address = (offset: number) => {
        const value = start + block * 1024 + offset;
        return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join(".");
    };
    return {
        /** The host's end of the link. */
        gateway: address(1),
        /** The node's end of the link; Kubernetes' API server answers here. */
        node: address(2),
        /** Pods, as CIDR. */
        pods: `${address(256)}/24`,
        /** Services, as CIDR. */
        services: `${address(512)}/24`,
        /** Cluster IP of the Service `kubernetes`. */
        api: address(512 + 1),
        /** Cluster IP that AKS gives its DNS Service. */
        dns: address(512 + 10),
    };
}

/** True where the block overlaps one of the routes (`10.0.0.0/8`, `10.1.2.3`, `default`). */
export function isTaken(block: number, routes: string[]): boolean {
    const first = start + block * 1024;
    return routes.some((route) => {
        const [address = "", length = "32"] = route.split("/");
        if (!/^\d+\./.test(address) || length === "0") return false;
        const size = 2 ** (32 - Number(length));
        const from = Math.floor(parse(address) / size) * size;
        return from < first + 1024 && first < from + size;
    });
}

/** Picks a free block. The search starts where the seed says, so that clusters seldom want the same. */
export function chooseBlock(seed: string, routes: string[]): number {
    const from = createHash("sha256").update(seed).digest().readUInt16BE();
    const blocks = Array.from({ length: blockCount }, (_, index) => (from + index) % blockCount);
    const block = blocks.find((candidate) => !isTaken(candidate, routes));
    if (block === undefined) {
        throw new Error("Routes of this machine cover all of 10.224.0.0/12; remove one (see `ip route`).");
    }
    return block;
}

/** A network namespace that is joined to the host, and a mount namespace to go with it. */
export interface NodeNamespaces extends Addresses {
    /** Files to join the namespaces by. */
    network: string;
    mounts: string;
}

let last = Promise.resolve<unknown>(undefined);

/** What a node's namespaces are made from. */
export interface NamespacesSpec {
    /** The sandbox's; marks the network device. */
    id: string;
    /** Keeps the addresses, and holds what is mounted at /var/lib/kubelet and /var/log. */
    directory: string;
    /** Holds the namespaces' files; must exist. */
    runDirectory: string;
    /** Ports on 127.0.0.1 that lead to the gateway's. */
    ports: number[];
}

/**
 * Makes the namespaces of a node. The addresses are chosen once and kept. Throws where a route of the host has come to
 * cover them.
 */
export async function makeNamespaces(spec: NamespacesSpec): Promise<NodeNamespaces> {
    // One after the other: two that run side by side would see the same block free.
    const made = last.then(() => make(spec));
    last = made.catch(() => undefined);
    return made;
}

async function make({ id, directory, runDirectory, ports }: NamespacesSpec): Promise<NodeNamespaces> {
    const file = join(directory, "addresses.json");
    const routes: { dst: string }[] = JSON.parse(await shell("ip -json -4 route show table all"));
    const taken = routes.map(({ dst }) => dst);
    const kept = existsSync(file);
    const block: number = kept ? JSON.parse(readFileSync(file, "utf8")).block : chooseBlock(directory, taken);
    const addresses = addressesOf(block);
    if (kept && isTaken(block, taken)) {
        const network = addresses.gateway.replace(/1$/, "0/22");
        throw new Error(
            `A route of this machine covers the cluster's addresses ${network}; remove it (see \`ip route\`).`,
        );
    }
    writeFileSync(file, JSON.stringify({ block }), { mode: 0o600 });
    const namespaces = {
        network: join(runDirectory, "namespaces", "network"),
        mounts: join(runDirectory, "namespaces", "mounts"),
        ...addresses,
    };
    const environment = {
        ...namespaces,
        directory,
        runDirectory,
        device: deviceOf(id, block),
        rules: iptablesRules(addresses, ports),
    };
    await shell(onHost, environment);
    await shell(`nsenter --net="$network" --mount="$mounts" sh -ec "$inside"`, { ...environment, inside });
    return namespaces;
}

/** Takes a node off the host at once: a network namespace that ends does so some time later. */
export async function disconnect({ id, directory }: Pick<NamespacesSpec, "id" | "directory">): Promise<void> {
    const file = join(directory, "addresses.json");
    if (!existsSync(file)) return;
    const device = deviceOf(id, JSON.parse(readFileSync(file, "utf8")).block);
    if (existsSync(`/sys/class/net/${device}`)) await shell(`ip link delete ${device}`);
}

const deviceOf = (id: string, block: number) => `aa${id}-${block.toString(16)}`;

// A file holds a mount namespace only where its mount is private.
const onHost = `
    mkdir "$runDirectory/namespaces"
    mount --bind "$runDirectory/namespaces" "$runDirectory/namespaces"
    mount --make-private "$runDirectory/namespaces"
    touch "$network" "$mounts"
    unshare --net="$network" --mount="$mounts" --propagation slave true
    ip link add "$device" type veth peer name eth0 netns "$network"
    ip address add "$gateway/30" dev "$device"
    ip link set "$device" up
    ip route add "$pods" via "$node"
    ip route add "$services" via "$node"
`;

/*
 * Places that kubelet, containerd and the CNI plugins have fixed in their code become the node's own: /var/log,
 * /var/lib/kubelet, /var/lib/cni. The rest of /var/lib stays in view, as the checkout may be there.
 * Kubelet also sets kernel parameters of the whole machine: here it writes to copies.
 * Every refusal is answered, at once: without DNS there are many, and the kernel sends one a second by default.
 */
const inside = `
    mkdir -p "$runDirectory/lib" "$runDirectory/sysctl" "$directory/kubelet" "$directory/logs"
    mount --bind "$directory/logs" /var/log
    mount --rbind /var/lib "$runDirectory/lib"
    mount -t tmpfs -o mode=755 tmpfs /var/lib
    ln -s "$runDirectory"/lib/* /var/lib/
    rm -f /var/lib/kubelet /var/lib/cni
    mkdir /var/lib/kubelet
    mount --bind "$directory/kubelet" /var/lib/kubelet
    for parameter in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \\
        kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
        copy="$runDirectory/sysctl/$(basename $parameter)"
        cat /proc/sys/$parameter > "$copy"
        mount --bind "$copy" /proc/sys/$parameter
    done
    echo 0 > /proc/sys/net/ipv4/icmp_ratelimit
    echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects
    echo 0 > /proc/sys/net/ipv4/conf/eth0/send_redirects
    ip link set lo up
    ip address add "$node/30" dev eth0
    ip link set eth0 up
    ip route add default via "$gateway"
    echo 1 > /proc/sys/net/ipv4/ip_forward
    echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
    printf %s "$rules" | iptables-restore
`;

/** Rules of the node's network namespace; kube-proxy and kubelet add theirs. */
export function iptablesRules({ gateway, node, services }: Addresses, ports: number[]): string {
    const toHost = ports.map(
        (port) => `-A OUTPUT -d 127.0.0.1 -p tcp --dport ${port} -j DNAT --to-destination ${gateway}`,
    );
    return [
        "*nat",
        ...toHost,
        `-A POSTROUTING -s 127.0.0.0/8 -o eth0 -j SNAT --to-source ${node}`,
        "COMMIT",
        "*filter",
        // A cluster IP without a Service answers at once: there is no DNS, and nobody should wait for it.
        `-A FORWARD -d ${services} -j REJECT`,
        "COMMIT\n",
    ].join("\n");
}

async function shell(script: string, environment: Record<string, string> = {}): Promise<string> {
    const env = { ...environment, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
    return (await run("sh", ["-ec", script], { env })).stdout;
}

function parse(address: string): number {
    return address.split(".").reduce((value, part) => value * 256 + Number(part), 0);
}
