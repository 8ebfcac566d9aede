import { Deployment } from "@pulumi/kubernetes/apps/v1/deployment.js";
import { Namespace } from "@pulumi/kubernetes/core/v1/namespace.js";
import { Service } from "@pulumi/kubernetes/core/v1/service.js";
import { PodDisruptionBudget } from "@pulumi/kubernetes/policy/v1/podDisruptionBudget.js";
import type { Provider } from "@pulumi/kubernetes/provider.js";
import * as pulumi from "@pulumi/pulumi";

/** What NginxDeployment needs. */
export interface NginxDeploymentArgs {
    /** Deploys to the cluster. */
    provider: Provider;
    /** The cluster, where this stack made it: a replaced cluster takes its workload along, a deleted one saves deleting that. */
    cluster?: pulumi.Resource | undefined;
    /** Image by digest, `<login server>/<repository>@sha256:...`. */
    image: pulumi.Input<string>;
    /** Pods to keep running. Default: 2. */
    replicas?: number | undefined;
    /** Namespace to create. Default: `nginx`. */
    namespace?: string | undefined;
    /** What a pod asks for and may use at most, as Kubernetes quantities. */
    resources?:
        | { requests: Record<"cpu" | "memory", string>; limits: Record<"cpu" | "memory", string> }
        | undefined;
}

/** The Deployment's name and label, the article's. */
const deploymentName = "nginx0-deployment";
const labels = { app: "nginx0" };

/** Seconds that a stopping pod goes on serving, so that no request meets a closed door before all nodes know. */
const drainSeconds = 5;

/** What nginx writes to; everything else of its file system is read-only. */
const writable = { tmp: "/tmp", run: "/run", cache: "/var/cache/nginx" };

/** nginx in a namespace of its own, fit for the `restricted` pod security standard, updated without a failed request. */
export class NginxDeployment extends pulumi.ComponentResource {
    /** Name of the Deployment. */
    readonly deploymentName: pulumi.Output<string>;
    /** Namespace that everything is in. */
    readonly namespace: pulumi.Output<string>;

    constructor(name: string, args: NginxDeploymentArgs, opts?: pulumi.ComponentResourceOptions) {
        super("aks-acr:index:NginxDeployment", name, {}, opts);

        const replicas = args.replicas ?? 2;
        const children = {
            parent: this,
            provider: args.provider,
            ...(args.cluster && { deletedWith: args.cluster, replaceWith: [args.cluster] }),
        };
        const namespace = new Namespace(
            name,
            {
                metadata: {
                    name: args.namespace ?? "nginx",
                    labels: { "pod-security.kubernetes.io/enforce": "restricted" },
                },
            },
            children,
        );
        const inNamespace = (objectName: string) => ({
            name: objectName,
            namespace: namespace.metadata.name,
            labels,
        });
        const deployment = new Deployment(
            name,
            {
                metadata: inNamespace(deploymentName),
                spec: {
                    replicas,
                    selector: { matchLabels: labels },
                    // A new pod is ready before an old one goes.
                    strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
                    template: { metadata: { labels }, spec: podSpec(args) },
                },
            },
            children,
        );
        new Service(
            name,
            {
                metadata: inNamespace("nginx0"),
                spec: { selector: labels, ports: [{ port: 80, targetPort: "http" }] },
            },
            { ...children, dependsOn: deployment },
        );
        new PodDisruptionBudget(
            name,
            {
                metadata: inNamespace("nginx0"),
                // One at a time; counting the unavailable lets a node be drained even with one replica.
                spec: { maxUnavailable: 1, selector: { matchLabels: labels } },
            },
            children,
        );

        this.namespace = namespace.metadata.name;
        this.deploymentName = deployment.metadata.name;
        this.registerOutputs({ namespace: this.namespace, deploymentName: this.deploymentName });
    }
}

/** The pod: non-root, no privileges, read-only root file system, probes, and time to finish its requests. */
export function podSpec(args: Pick<NginxDeploymentArgs, "image" | "resources">) {
    const probe = { httpGet: { path: "/", port: "http" } };
    return {
        automountServiceAccountToken: false,
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
