import { Deployment } from "@pulumi/kubernetes/apps/v1/deployment.js";
import { HorizontalPodAutoscaler } from "@pulumi/kubernetes/autoscaling/v2/horizontalPodAutoscaler.js";
import { Namespace } from "@pulumi/kubernetes/core/v1/namespace.js";
import { Service } from "@pulumi/kubernetes/core/v1/service.js";
import { PodDisruptionBudget } from "@pulumi/kubernetes/policy/v1/podDisruptionBudget.js";
import type { Provider } from "@pulumi/kubernetes/provider.js";
import * as pulumi from "@pulumi/pulumi";
import { explainPull } from "./errorHooks";
import { labels, type PodArgs, podSpec } from "./nginxPod";

/** What NginxDeployment needs. */
export interface NginxDeploymentArgs extends PodArgs {
    /** Deploys to the cluster. */
    provider: Provider;
    /** The cluster, where this stack made it: a replaced cluster takes its workload along, a deleted one saves deleting that. */
    cluster?: pulumi.Resource | undefined;
    /** Seconds to wait until the pods are Ready; 0 does not wait. Default: 600. */
    waitSeconds?: number | undefined;
    /** Pods to keep running, where they are not autoscaled. Default: 2. */
    replicas?: number | undefined;
    /** How many pods to run by the load: as many as keep the processor at this part of what they ask for. */
    autoscale?: { minReplicas: number; maxReplicas: number; cpuPercent: number } | undefined;
    /** Namespace to create. Default: `nginx`. */
    namespace?: string | undefined;
}

/** The Deployment's name, the article's. */
const deploymentName = "nginx0-deployment";

/** nginx in a namespace of its own, fit for the `restricted` pod security standard, updated without a failed request. */
export class NginxDeployment extends pulumi.ComponentResource {
    /** Name of the Deployment. */
    readonly deploymentName: pulumi.Output<string>;
    /** Namespace that everything is in. */
    readonly namespace: pulumi.Output<string>;

    constructor(name: string, args: NginxDeploymentArgs, opts?: pulumi.ComponentResourceOptions) {
        super("aks-acr:index:NginxDeployment", name, {}, opts);

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
        // Deployment and Service are both waited for until pods are Ready.
        const unawaited = { annotations: { "pulumi.com/skipAwait": "true" } };
        const inNamespace = (objectName: string) => ({
            name: objectName,
            namespace: namespace.metadata.name,
            labels,
            ...(args.waitSeconds === 0 && unawaited),
        });
        const deployment = new Deployment(
            name,
            {
                metadata: inNamespace(deploymentName),
                spec: {
                    // What is autoscaled is the autoscaler's to count; an update must not set it back.
                    ...(!args.autoscale && { replicas: args.replicas ?? 2 }),
                    selector: { matchLabels: labels },
                    // A new pod is ready before an old one goes.
                    strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
                    template: { metadata: { labels }, spec: podSpec(args) },
                },
            },
            {
                ...children,
                ...(args.waitSeconds && { customTimeouts: timeouts(`${args.waitSeconds}s`) }),
                hooks: { onError: [explainPull(`${name}-unready`)] },
            },
        );
        new Service(
            name,
            {
                metadata: inNamespace("nginx0"),
                spec: { selector: labels, ports: [{ port: 80, targetPort: "http" }] },
            },
            { ...children, dependsOn: deployment },
        );
        if (args.autoscale) {
            new HorizontalPodAutoscaler(
                name,
                {
                    metadata: inNamespace("nginx0"),
                    spec: autoscalerSpec(args.autoscale),
                },
                { ...children, dependsOn: deployment },
            );
        }
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

function autoscalerSpec({
    minReplicas,
    maxReplicas,
    cpuPercent,
}: NonNullable<NginxDeploymentArgs["autoscale"]>) {
    const target = { type: "Utilization", averageUtilization: cpuPercent };
    return {
        scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: deploymentName },
        minReplicas,
        maxReplicas,
        metrics: [{ type: "Resource", resource: { name: "cpu", target } }],
    };
}

function timeouts(limit: string): pulumi.CustomTimeouts {
    return { create: limit, update: limit };
}
