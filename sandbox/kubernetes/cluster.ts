import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { Agent, get } from "node:https";
import { connect } from "node:net";
import { basename, dirname, join } from "node:path";
import { json } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { type Processes, removeShimSockets, unmountBelow } from "../processes";
import { type Certificate, CertificateAuthority } from "./certificates";
import { makeNamespaces, type NodeNamespaces } from "./network";

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
    /** Called as soon as the network is up: the place to make registries listen at the gateway. */
    joined?: (gateway: string) => Promise<void> | void;
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

/** How AKS calls the first node of a pool named `system`. */
const nodeName = "aks-system-00000000-vmss000000";
const pauseImage = "aks-acr.sandbox/pause:1";
const overlayFileSystem = 0x794c7630;

/**
 * Starts a cluster (etcd, API server, controller manager, scheduler, containerd, kubelet, kube-proxy) in namespaces of
 * its own and resolves when its node is Ready. Throws with the failed process's last lines.
 *
 * Pod and cluster IPs can be reached from the host; the host's firewall is not touched. There is no DNS Service, and no
 * way to the internet.
 */
export async function startCluster(spec: ClusterSpec, processes: Processes): Promise<Cluster> {
    const { name, directory, runDirectory } = spec;
    if (runDirectory.length > 70)
        throw new Error(`${runDirectory} is too long for sockets; choose a shorter one.`);
    for (const place of [directory, runDirectory]) mkdirSync(place, { recursive: true, mode: 0o700 });
    const stop = async () => {
        // Kubelet first: it would start again what ends.
        await Promise.all(programs.map((program) => processes.stop(`${name}-${program}`, 1000)));
        await processes.removeCgroup(`pods/${name}`);
        removeShimSockets(runDirectory);
        await unmountBelow(runDirectory);
        rmSync(runDirectory, { recursive: true, force: true });
    };
    try {
        const node = await makeNamespaces({
            id: processes.id,
            directory,
            runDirectory,
            ports: spec.registry.ports,
        });
        const [credentials] = await Promise.all([makeCredentials(spec, node), spec.joined?.(node.gateway)]);
        await new Start(spec, processes, node, credentials).all();
        return {
            kubeconfig: kubeconfig(name, node, credentials.ca, credentials.admin),
            server: serverOf(node),
            gateway: node.gateway,
            stop,
            destroy: async () => {
                await stop();
                rmSync(directory, { recursive: true, force: true });
            },
        };
    } catch (error) {
        await stop();
        throw error;
    }
}

const programs = [
    "kubelet",
    "kube-proxy",
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
    "containerd",
    "etcd",
] as const;
type Program = (typeof programs)[number];

const serverOf = ({ node }: { node: string }) => `https://${node}:6443`;

type Credentials = Awaited<ReturnType<typeof makeCredentials>>;

async function makeCredentials({ directory }: ClusterSpec, { node, api }: NodeNamespaces) {
    const authority = new CertificateAuthority(join(directory, "certificates"));
    const names = [node, api, "127.0.0.1"].map((value) => ({ type: "ip" as const, value }));
    const server = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    return {
        ca: await authority.own(),
        server: await authority.issue("apiserver", {
            user: "kube-apiserver",
            names: [...names, ...server.map((value) => ({ type: "dns" as const, value }))],
        }),
        admin: await authority.issue("admin", { user: "masterclient", group: "system:masters" }),
        kubeletClient: await authority.issue("apiserver-kubelet", {
            user: "kube-apiserver",
            group: "system:masters",
        }),
        controllerManager: await authority.issue("controller-manager", {
            user: "system:kube-controller-manager",
        }),
        scheduler: await authority.issue("scheduler", { user: "system:kube-scheduler" }),
        proxy: await authority.issue("proxy", { user: "system:kube-proxy" }),
        kubelet: await authority.issue("kubelet", { user: `system:node:${nodeName}`, group: "system:nodes" }),
        // Only its key is used: it signs the tokens of service accounts.
        serviceAccounts: await authority.issue("service-accounts", { user: "service-accounts" }),
    };
}

/** One start of a cluster. */
class Start {
    private readonly etcd: string;
    private readonly containerd: string;
    private readonly agent: Agent;
    private readonly since = Date.now();

    constructor(
        private readonly spec: ClusterSpec,
        private readonly processes: Processes,
        private readonly node: NodeNamespaces,
        private readonly credentials: Credentials,
    ) {
        this.etcd = join(spec.runDirectory, "etcd:0");
        this.containerd = join(spec.runDirectory, "containerd.sock");
        const { ca, admin } = credentials;
        this.agent = new Agent({
            ca: ca.certificate,
            cert: admin.certificate,
            key: admin.key,
            keepAlive: false,
        });
    }

    async all(): Promise<void> {
        const control = this.startEtcd().then(() => this.startApiServer());
        const runtime = this.startContainerd();
        // All of them end in any case, so that what stops after a failure stops everything.
        const results = await Promise.allSettled([
            control.then(() => this.startControllerManager()),
            control.then(() => this.startScheduler()),
            control.then(() => this.startProxy()),
            Promise.all([control, runtime]).then(() => this.startKubelet()),
        ]);
        for (const result of results) if (result.status === "rejected") throw result.reason;
        while (!(await this.isNodeReady().catch(() => false))) {
            if (Date.now() - this.since > 180_000) {
                throw new Error(
                    `The node of cluster ${this.spec.name} is not Ready; see the log of its kubelet.`,
                );
            }
            await sleep(100);
        }
        this.agent.destroy();
    }

    private startEtcd(): Promise<void> {
        const { directory, runDirectory, tools } = this.spec;
        // Sockets that only root can open: pods of the host's network must not reach the data. Etcd 3.4 takes them only
        // as `host:port`, and makes them where it runs.
        const url = `unix://${basename(this.etcd)}`;
        const flags = {
            "data-dir": join(directory, "etcd"),
            "listen-client-urls": url,
            "advertise-client-urls": url,
            "listen-peer-urls": `${url}1`,
            // It elects itself; the defaults would take a second.
            "heartbeat-interval": 20,
            "election-timeout": 200,
        };
        const enter = 'cd "$0" && rm -f etcd:* && exec "$@"';
        const command = ["sh", "-c", enter, runDirectory, join(tools.packages, "bin", "etcd")];
        return this.start("etcd", command, flags, () => answers(this.etcd));
    }

    private startApiServer(): Promise<void> {
        const { ca, server, kubeletClient, serviceAccounts } = this.credentials;
        return this.start(
            "kube-apiserver",
            this.kubernetes("kube-apiserver"),
            {
                "advertise-address": this.node.node,
                "allow-privileged": true,
                "anonymous-auth": false,
                "authorization-mode": "Node,RBAC",
                "client-ca-file": ca.certificateFile,
                "enable-admission-plugins": "NodeRestriction",
                "etcd-servers": `unix://${this.etcd}`,
                "kubelet-client-certificate": kubeletClient.certificateFile,
                "kubelet-client-key": kubeletClient.keyFile,
                "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
                "service-account-key-file": serviceAccounts.certificateFile,
                "service-account-signing-key-file": serviceAccounts.keyFile,
                "service-cluster-ip-range": this.node.services,
                "tls-cert-file": server.certificateFile,
                "tls-private-key-file": server.keyFile,
            },
            async () => (await this.get("/readyz")) !== undefined,
        );
    }

    private startControllerManager(): Promise<void> {
        const { ca, controllerManager, serviceAccounts } = this.credentials;
        return this.start("kube-controller-manager", this.kubernetes("kube-controller-manager"), {
            "bind-address": "127.0.0.1",
            "cluster-signing-cert-file": ca.certificateFile,
            "cluster-signing-key-file": ca.keyFile,
            // Of the 20 requests a second by default it would spend four seconds waiting.
            "kube-api-burst": 400,
            "kube-api-qps": 200,
            kubeconfig: this.kubeconfig("controller-manager", controllerManager),
            "leader-elect": false,
            "root-ca-file": ca.certificateFile,
            "service-account-private-key-file": serviceAccounts.keyFile,
            "use-service-account-credentials": true,
        });
    }

    private startScheduler(): Promise<void> {
        return this.start("kube-scheduler", this.kubernetes("kube-scheduler"), {
            "bind-address": "127.0.0.1",
            kubeconfig: this.kubeconfig("scheduler", this.credentials.scheduler),
            "leader-elect": false,
        });
    }

    private startProxy(): Promise<void> {
        return this.start("kube-proxy", this.kubernetes("kube-proxy"), {
            "cluster-cidr": this.node.pods,
            // Connection tracking limits are the whole machine's.
            "conntrack-max-per-core": 0,
            "conntrack-tcp-timeout-close-wait": "0s",
            "conntrack-tcp-timeout-established": "0s",
            "hostname-override": nodeName,
            kubeconfig: this.kubeconfig("proxy", this.credentials.proxy),
            "proxy-mode": "iptables",
        });
    }

    private async startContainerd(): Promise<void> {
        const { directory, runDirectory, tools, registry } = this.spec;
        const hosts = join(directory, "containerd", "hosts");
        rmSync(hosts, { recursive: true, force: true });
        for (const port of registry.ports) {
            const server = `https://127.0.0.1:${port}`;
            const ca = JSON.stringify(registry.certificateAuthority);
            write(
                join(hosts, `127.0.0.1:${port}`, "hosts.toml"),
                `server = "${server}"\n[host."${server}"]\nca = ${ca}\n`,
            );
        }
        write(
            join(directory, "cni", "10-bridge.conflist"),
            JSON.stringify({
                cniVersion: "0.4.0",
                name: "azure",
                plugins: [
                    {
                        type: "bridge",
                        bridge: "cni0",
                        isGateway: true,
                        hairpinMode: true,
                        ipam: {
                            type: "host-local",
                            ranges: [[{ subnet: this.node.pods }]],
                            routes: [{ dst: "0.0.0.0/0" }],
                        },
                    },
                    { type: "portmap", capabilities: { portMappings: true }, snat: true },
                ],
            }),
        );
        const config = join(directory, "containerd", "config.toml");
        write(
            config,
            `version = 2
root = ${JSON.stringify(join(directory, "containerd"))}
state = ${JSON.stringify(join(runDirectory, "containerd"))}
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing"]
[grpc]
address = ${JSON.stringify(this.containerd)}
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${pauseImage}"
netns_mounts_under_state_dir = true
# Without CAP_SYS_RESOURCE no process may have a lower score than containerd.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = ${JSON.stringify(join(tools.packages, "cni"))}
conf_dir = ${JSON.stringify(join(directory, "cni"))}
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = ${JSON.stringify(hosts)}
[plugins."io.containerd.grpc.v1.cri".containerd]
# Overlay file systems cannot lie on one another, as they would in a container.
snapshotter = "${statfsSync(directory).type === overlayFileSystem ? "native" : "overlayfs"}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = ${JSON.stringify(join(tools.packages, "bin", "runc"))}
Root = ${JSON.stringify(join(runDirectory, "runc"))}
`,
        );
        const command = [join(tools.packages, "bin", "containerd")];
        // Containerd finds its shims on PATH.
        const env = { PATH: `${join(tools.packages, "bin")}:/usr/sbin:/usr/bin:/sbin:/bin` };
        await this.start("containerd", command, { config }, () => answers(this.containerd), env);
        await this.importPauseImage();
    }

    /** The container that holds a pod's namespaces only has to stay: busybox does, and needs no download. */
    private async importPauseImage(): Promise<void> {
        const done = join(this.spec.directory, "containerd", "pause-image");
        if (existsSync(done)) return;
        const bin = join(this.spec.tools.packages, "bin");
        const script = `
            tar -C "$bin" -cf layer.tar busybox
            layer=$(sha256sum layer.tar | cut -c 1-64)
            echo '{"architecture":"${goArchitecture}","os":"linux","config":{"Cmd":["/busybox","sleep","2147483647"]},' \
                '"rootfs":{"type":"layers","diff_ids":["sha256:'$layer'"]}}' > config.json
            echo '[{"Config":"config.json","RepoTags":["${pauseImage}"],"Layers":["layer.tar"]}]' > manifest.json
            tar -cf image.tar manifest.json config.json layer.tar
            "$bin/ctr" --address "$address" --namespace k8s.io images import image.tar
        `;
        const cwd = mkdtempSync(join(this.spec.directory, "pause-image-"));
        await run("sh", ["-ec", script], { cwd, env: { ...process.env, bin, address: this.containerd } });
        rmSync(cwd, { recursive: true });
        write(done, "");
    }

    private startKubelet(): Promise<void> {
        const { directory, credentialProvider, name, registry } = this.spec;
        const cgroupRoot = this.processes.cgroup(`pods/${name}`);
        const provider = join(directory, "kubelet-credential-provider.json");
        write(
            provider,
            JSON.stringify({
                apiVersion: "kubelet.config.k8s.io/v1",
                kind: "CredentialProviderConfig",
                providers: [
                    {
                        name: basename(credentialProvider.executable),
                        apiVersion: "credentialprovider.kubelet.k8s.io/v1",
                        // Ports are compared as they are: a pattern with none would not match.
                        matchImages: registry.ports.map((port) => `127.0.0.1:${port}`),
                        defaultCacheDuration: "10m",
                        env: Object.entries(credentialProvider.env).map(([key, value]) => ({
                            name: key,
                            value,
                        })),
                    },
                ],
            }),
        );
        const resolvConf = join(directory, "resolv.conf");
        write(resolvConf, `nameserver ${this.node.dns}\n`);
        const config = join(directory, "kubelet.json");
        write(
            config,
            JSON.stringify({
                apiVersion: "kubelet.config.k8s.io/v1beta1",
                kind: "KubeletConfiguration",
                authentication: {
                    anonymous: { enabled: false },
                    webhook: { enabled: true },
                    x509: { clientCAFile: this.credentials.ca.certificateFile },
                },
                authorization: { mode: "Webhook" },
                cgroupDriver: "cgroupfs",
                cgroupRoot,
                clusterDNS: [this.node.dns],
                clusterDomain: "cluster.local",
                containerRuntimeEndpoint: `unix://${this.containerd}`,
                enforceNodeAllocatable: [],
                // The disk is the developer's: that it is nearly full is no reason to evict.
                evictionHard: {
                    "memory.available": "100Mi",
                    "nodefs.available": "200Mi",
                    "imagefs.available": "200Mi",
                },
                failCgroupV1: false,
                failSwapOn: false,
                imageGCHighThresholdPercent: 100,
                resolvConf,
                volumePluginDir: "/var/lib/kubelet/volume-plugins",
            }),
        );
        return this.start("kubelet", this.kubernetes("kubelet"), {
            config,
            "hostname-override": nodeName,
            "image-credential-provider-bin-dir": dirname(credentialProvider.executable),
            "image-credential-provider-config": provider,
            kubeconfig: this.kubeconfig("kubelet", this.credentials.kubelet),
            "node-ip": this.node.node,
            "node-labels": "kubernetes.azure.com/agentpool=system,agentpool=system",
        });
    }

    private async isNodeReady(): Promise<boolean> {
        const { spec, status } = (await this.get(`/api/v1/nodes/${nodeName}`)) as NodeObject;
        const ready = status.conditions?.find(({ type }) => type === "Ready");
        // After a restart the last run's condition is still there.
        const isCurrent = Date.parse(ready?.lastHeartbeatTime ?? "") > this.since - 1000;
        return isCurrent && ready?.status === "True" && !spec.taints?.length;
    }

    private start(
        program: Program,
        command: string[],
        flags: Record<string, string | number | boolean>,
        ready?: () => Promise<boolean>,
        env: Record<string, string> = {},
    ): Promise<void> {
        const { network, mounts } = this.node;
        const [executable = "", ...fixed] = command;
        const args = [...fixed, ...Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`)];
        const spec = { name: `${this.spec.name}-${program}`, command: executable, args, env, network, mounts };
        return this.processes.start(ready ? { ...spec, ready } : spec);
    }

    private readonly kubernetes = (program: Program) => [join(this.spec.tools.kubernetes, program)];

    private kubeconfig(name: string, client: Certificate): string {
        const file = join(this.spec.directory, "certificates", `${name}.kubeconfig`);
        write(file, kubeconfig(this.spec.name, this.node, this.credentials.ca, client));
        return file;
    }

    /** Asks the API server. Throws where the answer is not 200. */
    private get(path: string): Promise<unknown> {
        return new Promise((resolve, reject) => {
            get(`${serverOf(this.node)}${path}`, { agent: this.agent, timeout: 5000 }, (response) => {
                if (response.statusCode !== 200) reject(new Error(`${path}: ${response.statusCode}`));
                if (path === "/readyz") resolve(response.resume());
                else json(response).then(resolve, reject);
            }).on("error", reject);
        });
    }
}

interface NodeObject {
    spec: { taints?: unknown[] };
    status: { conditions?: { type: string; status: string; lastHeartbeatTime: string }[] };
}

/** The architecture as images name it. */
const goArchitecture = process.arch === "x64" ? "amd64" : process.arch;

/** A kubeconfig; JSON is YAML. */
function kubeconfig(name: string, node: NodeNamespaces, ca: Certificate, client: Certificate): string {
    const base64 = (text: string) => Buffer.from(text).toString("base64");
    const user = {
        "client-certificate-data": base64(client.certificate),
        "client-key-data": base64(client.key),
    };
    const cluster = { server: serverOf(node), "certificate-authority-data": base64(ca.certificate) };
    const config = {
        apiVersion: "v1",
        kind: "Config",
        clusters: [{ name, cluster }],
        users: [{ name, user }],
        contexts: [{ name, context: { cluster: name, user: name } }],
        "current-context": name,
    };
    return `${JSON.stringify(config, undefined, 2)}\n`;
}

function write(file: string, content: string): void {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, content, { mode: 0o600 });
}

/** True where something listens on the socket. */
function answers(socket: string): Promise<boolean> {
    return new Promise((resolve) => {
        const client = connect(socket, () => resolve(true)).once("error", () => resolve(false));
        client.once("connect", () => client.destroy());
    });
}
