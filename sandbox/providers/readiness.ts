import type { KubernetesObject } from "../kubernetes/client";

/** Whether an object has become what it was applied to be. */
export interface Readiness {
    ready: boolean;
    /** What is awaited, in the words of the vendor's provider. */
    message: string;
    /** What keeps it from being ready, such as an image that cannot be pulled. */
    problems: string[];
}

/** A Deployment is ready when all its replicas are of the new template and available, and none of an old one is left. */
export function deploymentReadiness(deployment: KubernetesObject, pods: KubernetesObject[]): Readiness {
    const { metadata, spec, status = {} } = deployment;
    const wanted = spec.replicas ?? 1;
    const available =
        status.updatedReplicas > 0 ? Math.min(status.availableReplicas ?? 0, status.updatedReplicas) : 0;
    const ready =
        status.observedGeneration >= metadata.generation &&
        (status.updatedReplicas ?? 0) === wanted &&
        (status.availableReplicas ?? 0) >= wanted &&
        (status.replicas ?? 0) === wanted;
    const message = `Waiting for app ReplicaSet to be available (${available}/${wanted} Pods available)`;
    return {
        ready,
        message,
        problems: ready ? [] : [...failedConditions(status), ...pods.flatMap(podProblems)],
    };
}

/** A Service with a selector is ready when an endpoint stands behind it. */
export function serviceReadiness(service: KubernetesObject, slices: KubernetesObject[]): Readiness {
    const serving = slices.some(({ endpoints }) =>
        (endpoints ?? []).some(({ conditions }: KubernetesObject) => conditions?.ready !== false),
    );
    const ready = !service.spec.selector || service.spec.type === "ExternalName" || serving;
    return { ready, message: "Waiting for endpoints of the Service", problems: [] };
}

function failedConditions({ conditions = [] }: KubernetesObject): string[] {
    return conditions
        .filter(({ type, status }: KubernetesObject) => type === "ReplicaFailure" && status === "True")
        .map(({ reason, message }: KubernetesObject) => `[${reason}] ${message}`);
}

/** Reasons that pass by themselves while a pod starts. */
const usual = new Set(["ContainerCreating", "PodInitializing"]);

function podProblems({ metadata, status = {} }: KubernetesObject): string[] {
    const waiting = (status.containerStatuses ?? [])
        .map(({ state }: KubernetesObject) => state?.waiting)
        .filter((each: KubernetesObject | undefined) => each && !usual.has(each.reason));
    const unscheduled = (status.conditions ?? []).filter(
        (each: KubernetesObject) => each.type === "PodScheduled" && each.status === "False",
    );
    return [...waiting, ...unscheduled].map(
        ({ reason, message }) => `[Pod ${metadata.name}]: [${reason}] ${message ?? ""}`,
    );
}
