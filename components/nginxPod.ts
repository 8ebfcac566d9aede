import type * as pulumi from "@pulumi/pulumi";

/** The label of nginx's pods, the article's. */
export const labels = { app: "nginx0" };

/** What runs in a pod, and where. */
export interface PodArgs {
    /** Image by digest, `<login server>/<repository>@sha256:...`. */
    image: pulumi.Input<string>;
    /** Architecture of the nodes to run on, where the image is not there for all of the cluster's. Default: any. */
    architecture?: string | undefined;
    /** What a pod asks for and may use at most, as Kubernetes quantities. */
    resources?:
        | { requests: Record<"cpu" | "memory", string>; limits: Record<"cpu" | "memory", string> }
        | undefined;
}

/** Seconds that a stopping pod goes on serving, so that no request meets a closed door before all nodes know. */
const drainSeconds = 5;

/** What nginx writes to; everything else of its file system is read-only. */
const writable = { tmp: "/tmp", run: "/run", cache: "/var/cache/nginx" };

/** The pod: non-root, no privileges, read-only root file system, probes, and time to finish its requests. */
export function podSpec(args: PodArgs) {
    const probe = { httpGet: { path: "/", port: "http" } };
    return {
        automountServiceAccountToken: false,
        ...(args.architecture !== undefined && { nodeSelector: { "kubernetes.io/arch": args.architecture } }),
        securityContext: {
            runAsNonRoot: true,
            // The nginx user of the official image.
            runAsUser: 101,
            runAsGroup: 101,
            fsGroup: 101,
            seccompProfile: { type: "RuntimeDefault" },
            // Lets a non-root nginx keep the article's port 80; one of the safe sysctls.
            sysctls: [{ name: "net.ipv4.ip_unprivileged_port_start", value: "0" }],
        },
        topologySpreadConstraints: ["topology.kubernetes.io/zone", "kubernetes.io/hostname"].map(
            (topologyKey) => ({
                maxSkew: 1,
                topologyKey,
                whenUnsatisfiable: "ScheduleAnyway",
                labelSelector: { matchLabels: labels },
            }),
        ),
        terminationGracePeriodSeconds: 30,
        containers: [
            {
                name: "nginx",
                image: args.image,
                ports: [{ name: "http", containerPort: 80 }],
                resources: args.resources ?? {
                    requests: { cpu: "50m", memory: "32Mi" },
                    limits: { cpu: "250m", memory: "128Mi" },
                },
                readinessProbe: { ...probe, periodSeconds: 2 },
                livenessProbe: { ...probe, periodSeconds: 10, failureThreshold: 3 },
                lifecycle: { preStop: { sleep: { seconds: drainSeconds } } },
                securityContext: {
                    allowPrivilegeEscalation: false,
                    readOnlyRootFilesystem: true,
                    capabilities: { drop: ["ALL"] },
                },
                volumeMounts: Object.entries(writable).map(([name, mountPath]) => ({ name, mountPath })),
            },
        ],
        volumes: Object.keys(writable).map((name) => ({ name, emptyDir: { sizeLimit: "64Mi" } })),
    };
}
