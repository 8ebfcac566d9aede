import { basename, dirname, join } from "node:path";
import type { Certificate } from "../certificates";
import type { ClusterSpec } from "./cluster";
import type { Addresses } from "./network";

/** How AKS calls the first node of a pool named `system`. */
export const nodeName = "aks-system-00000000-vmss000000";
/** The container that holds a pod's namespaces. */
export const pauseImage = "aks-acr.sandbox/pause:1";

/** Made by who reads it; the default is a directory of the whole machine. */
const volumePlugins = "/var/lib/kubelet/volume-plugins";

/** Places that more than one program of a cluster knows. */
export function placesOf({ directory, runDirectory }: Pick<ClusterSpec, "directory" | "runDirectory">) {
    return {
        certificates: join(directory, "certificates"),
        containerd: join(runDirectory, "containerd.sock"),
        // Etcd 3.4 takes a socket's name only as `host:port`.
        etcd: join(runDirectory, "etcd:0"),
        hosts: join(directory, "containerd", "hosts"),
        networks: join(directory, "cni"),
        kubelet: join(directory, "kubelet.json"),
        credentialProviders: join(directory, "kubelet-credential-provider.json"),
        resolvConf: join(directory, "resolv.conf"),
        runtime: join(directory, "containerd", "config.toml"),
    };
}

/**
 * The certificates of clients, by file name: user and group. See "PKI certificates and requirements" in the Kubernetes
 * documentation.
 */
export const clients: Record<string, { commonName: string; organization?: string }> = {
    admin: { commonName: "masterclient", organization: "system:masters" },
    "apiserver-kubelet": { commonName: "kube-apiserver", organization: "system:masters" },
    "controller-manager": { commonName: "system:kube-controller-manager" },
    kubelet: { commonName: `system:node:${nodeName}`, organization: "system:nodes" },
    proxy: { commonName: "system:kube-proxy" },
    scheduler: { commonName: "system:kube-scheduler" },
    // Only its key is used: it signs the tokens of service accounts.
    "service-accounts": { commonName: "service-accounts" },
};

/** URL of the API server. */
export const serverOf = ({ node }: Addresses) => `https://${node}:6443`;

/** What the API server is reached by. */
export function serverNames({ node, api }: Addresses): string[] {
    const service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    return [node, api, ...service, "kubernetes.default.svc.cluster.local"];
}

/** A kubeconfig for one client; JSON is YAML. All certificates are PEM. */
export function kubeconfig(
    name: string,
    server: string,
    authority: string,
    { certificate, key }: Certificate,
): string {
    const base64 = (text: string) => Buffer.from(text).toString("base64");
    const user = { "client-certificate-data": base64(certificate), "client-key-data": base64(key) };
    return kubeconfigOf(name, { server, "certificate-authority-data": base64(authority) }, user);
}

/** A kubeconfig with one context; without a user it carries no credential. */
export function kubeconfigOf(name: string, cluster: object, user?: object): string {
    const context = { cluster: name, user: user && name };
    const config = {
        apiVersion: "v1",
        kind: "Config",
        clusters: [{ name, cluster }],
        users: user && [{ name, user }],
        contexts: [{ name, context }],
        "current-context": name,
    };
    return `${JSON.stringify(config, undefined, 2)}\n`;
}

/** Flags of the programs whose names say all. */
export function flagsOf(spec: ClusterSpec, { node, pods, services }: Addresses) {
    const places = placesOf(spec);
    const certificate = (file: string) => join(places.certificates, file);
    const etcd = `unix://${basename(places.etcd)}`;
    return {
        etcd: {
            "data-dir": join(spec.directory, "etcd"),
            // Sockets that only root can open: pods of the node's network must not reach the data.
            "listen-client-urls": etcd,
            "advertise-client-urls": etcd,
            "listen-peer-urls": `${etcd}1`,
            // It elects itself; the defaults would take a second.
            "heartbeat-interval": 20,
            "election-timeout": 200,
        },
        "kube-apiserver": {
            "advertise-address": node,
            "allow-privileged": true,
            "anonymous-auth": false,
            // What it once said of a token holds that long, a refusal too.
            "authentication-token-webhook-cache-ttl": "10s",
            "authentication-token-webhook-config-file": spec.tokenReview,
            "authentication-token-webhook-version": "v1",
            "authorization-mode": "Node,RBAC",
            "client-ca-file": certificate("ca.crt"),
            "enable-admission-plugins": "NodeRestriction",
            "etcd-servers": `unix://${places.etcd}`,
            "kubelet-client-certificate": certificate("apiserver-kubelet.crt"),
            "kubelet-client-key": certificate("apiserver-kubelet.key"),
            // By default it would look up the node's name.
            "kubelet-preferred-address-types": "InternalIP",
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": certificate("service-accounts.crt"),
            "service-account-signing-key-file": certificate("service-accounts.key"),
            "service-cluster-ip-range": services,
            "tls-cert-file": certificate("apiserver.crt"),
            "tls-private-key-file": certificate("apiserver.key"),
        },
        "kube-controller-manager": {
            "bind-address": "127.0.0.1",
            "cluster-signing-cert-file": certificate("ca.crt"),
            "cluster-signing-key-file": certificate("ca.key"),
            "flex-volume-plugin-dir": volumePlugins,
            // With the default of 20 requests a second it spends its first four seconds waiting.
            "kube-api-burst": 400,
            "kube-api-qps": 200,
            kubeconfig: certificate("controller-manager.kubeconfig"),
            "leader-elect": false,
            "root-ca-file": certificate("ca.crt"),
            "service-account-private-key-file": certificate("service-accounts.key"),
            "use-service-account-credentials": true,
        },
        "kube-scheduler": {
            "bind-address": "127.0.0.1",
            kubeconfig: certificate("scheduler.kubeconfig"),
            "leader-elect": false,
        },
        "kube-proxy": {
            "cluster-cidr": pods,
            // Limits of connection tracking are the whole machine's.
            "conntrack-max-per-core": 0,
            "conntrack-tcp-timeout-close-wait": "0s",
            "conntrack-tcp-timeout-established": "0s",
            "hostname-override": nodeName,
            // By default a new pod can be out of its Service's rules for a second.
            "iptables-min-sync-period": "100ms",
            kubeconfig: certificate("proxy.kubeconfig"),
            "proxy-mode": "iptables",
        },
        containerd: { config: places.runtime },
        kubelet: {
            config: places.kubelet,
            "hostname-override": nodeName,
            "image-credential-provider-bin-dir": dirname(spec.credentialProvider.executable),
            "image-credential-provider-config": places.credentialProviders,
            kubeconfig: certificate("kubelet.kubeconfig"),
            "node-ip": node,
            "node-labels": "kubernetes.azure.com/agentpool=system,agentpool=system",
        },
    };
}

/** The programs of a cluster. */
export type Program = keyof ReturnType<typeof flagsOf>;

/** Files that the node's programs read, by path. */
export function filesOf(
    spec: ClusterSpec,
    { dns, pods }: Addresses,
    { cgroup, snapshotter }: { cgroup: string; snapshotter: "overlayfs" | "native" },
): Record<string, string> {
    const places = placesOf(spec);
    const { registry, credentialProvider, tools } = spec;
    const quote = JSON.stringify;
    const hosts = registry.ports.map((port) => {
        const server = quote(`https://127.0.0.1:${port}`);
        const text = `server = ${server}\n[host.${server}]\nca = ${quote(registry.certificateAuthority)}\n`;
        return [join(places.hosts, `127.0.0.1:${port}`, "hosts.toml"), text];
    });
    const ranges = [[{ subnet: pods }]];
    const ipam = { type: "host-local", ranges, routes: [{ dst: "0.0.0.0/0" }] };
    const network = {
        cniVersion: "0.4.0",
        name: "azure",
        // Every packet is routed, as in Azure CNI: on a bridge, answers from a Service's pods would miss kube-proxy's rules.
        plugins: [
            { type: "ptp", ipam },
            { type: "portmap", capabilities: { portMappings: true }, snat: true },
        ],
    };
    const credentialProviders = {
        apiVersion: "kubelet.config.k8s.io/v1",
        kind: "CredentialProviderConfig",
        providers: [
            {
                name: basename(credentialProvider.executable),
                apiVersion: "credentialprovider.kubelet.k8s.io/v1",
                // A pattern matches one port only.
                matchImages: registry.ports.map((port) => `127.0.0.1:${port}`),
                defaultCacheDuration: "10m",
                env: Object.entries(credentialProvider.env).map(([name, value]) => ({ name, value })),
            },
        ],
    };
    const kubelet = {
        apiVersion: "kubelet.config.k8s.io/v1beta1",
        kind: "KubeletConfiguration",
        authentication: {
            anonymous: { enabled: false },
            webhook: { enabled: true },
            x509: { clientCAFile: join(places.certificates, "ca.crt") },
        },
        authorization: { mode: "Webhook" },
        cgroupDriver: "cgroupfs",
        cgroupRoot: cgroup,
        clusterDNS: [dns],
        clusterDomain: "cluster.local",
        containerRuntimeEndpoint: `unix://${places.containerd}`,
        enforceNodeAllocatable: [],
        // The disk is the developer's: that it is nearly full is no reason to evict.
        evictionHard: {
            "imagefs.available": "200Mi",
            "memory.available": "100Mi",
            "nodefs.available": "200Mi",
        },
        failCgroupV1: false,
        failSwapOn: false,
        imageGCHighThresholdPercent: 100,
        resolvConf: places.resolvConf,
        volumePluginDir: volumePlugins,
    };
    const containerd = `version = 2
root = ${quote(join(spec.directory, "containerd"))}
state = ${quote(join(spec.runDirectory, "containerd"))}
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing"]
[grpc]
address = ${quote(places.containerd)}
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${pauseImage}"
netns_mounts_under_state_dir = true
# Without CAP_SYS_RESOURCE no process may have a lower score than containerd.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = ${quote(join(tools.packages, "cni"))}
conf_dir = ${quote(places.networks)}
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = ${quote(places.hosts)}
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "${snapshotter}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = ${quote(join(tools.packages, "bin", "runc"))}
Root = ${quote(join(spec.runDirectory, "runc"))}
`;
    return {
        ...Object.fromEntries(hosts),
        [join(places.networks, "10-azure.conflist")]: quote(network),
        [places.credentialProviders]: quote(credentialProviders),
        [places.kubelet]: quote(kubelet),
        [places.resolvConf]: `nameserver ${dns}\n`,
        [places.runtime]: containerd,
    };
}
