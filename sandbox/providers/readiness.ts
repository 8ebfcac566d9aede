import type { KubernetesObject } from "../kubernetes/client";

/** What keeps an object from being ready. */
export interface Problem {
    /** What has it, e.g. `[Pod nginx/nginx0-6d5f-x2x8p] container nginx`. */
    subject: string;
    /** Kubernetes' word for it, e.g. `ImagePullBackOff`. */
    reason: string;
    message: string;
}

/** Whether an object has become what it was applied to be. */
export interface Readiness {
    ready: boolean;
    /** What is awaited, in the words of the vendor's plugin. */
    message: string;
    problems: Problem[];
}

const awaited = (message: string, problems: Problem[] = []): Readiness => ({
    ready: false,
    message,
    problems,
});
const done = (message: string): Readiness => ({ ready: true, message, problems: [] });

/**
 * A Deployment is ready when its controller has seen the latest change, all its replicas are of the new template and
 * available, and none of an old one is left: what `kubectl rollout status` waits for.
 */
export function deploymentReadiness(
    deployment: KubernetesObject,
    replicaSets: KubernetesObject[],
    pods: KubernetesObject[],
): Readiness {
    const { metadata, spec, status = {} } = deployment;
    const wanted = spec.replicas ?? 1;
    const { replicas = 0, updatedReplicas = 0, availableReplicas = 0, observedGeneration = 0 } = status;
    if (observedGeneration < metadata.generation) return awaited("Waiting for the Deployment controller");
    const replicaSet = replicaSets.find(
        (each) => owns(deployment, each) && revisionOf(each) === revisionOf(deployment),
    );
    const ofReplicaSet = pods.filter((pod) => replicaSet && owns(replicaSet, pod));
    // What the controller itself says: pods that it may not create, a deadline that has passed.
    const bad = { ReplicaFailure: "True", Progressing: "False" };
    const own = conditionProblems(subjectOf("Deployment", deployment), deployment, bad);
    const problems = [...own, ...ofReplicaSet.flatMap(podProblems)];
    const available = replicaSet?.status?.availableReplicas ?? 0;
    if (updatedReplicas < wanted || available < wanted)
        return awaited(
            `Waiting for app ReplicaSet to be available (${available}/${wanted} Pods available)`,
            problems,
        );
    if (replicas > updatedReplicas)
        return awaited(`Waiting for ${replicas - updatedReplicas} old Pods to be gone`, problems);
    if (availableReplicas < updatedReplicas) return awaited("Waiting for Pods to be available", problems);
    return done("Deployment initialization complete");
}

/** A Service with a selector, the only kind that this program makes, is ready when an endpoint stands behind it. */
export function serviceReadiness(slices: KubernetesObject[]): Readiness {
    const serving = slices.some(({ endpoints }) =>
        (endpoints ?? []).some(({ conditions }: KubernetesObject) => conditions?.ready !== false),
    );
    return serving
        ? done("Service initialization complete")
        : awaited("Finding Pods to direct traffic to: .spec.selector selects none that is ready yet");
}

const owns = (owner: KubernetesObject, { metadata }: KubernetesObject): boolean =>
    (metadata.ownerReferences ?? []).some(({ uid }: KubernetesObject) => uid === owner.metadata.uid);
const revisionOf = ({ metadata }: KubernetesObject) =>
    metadata.annotations?.["deployment.kubernetes.io/revision"];

/** The problems of an object that its conditions tell, by the status that is bad of each type. */
function conditionProblems(
    subject: string,
    { status }: KubernetesObject,
    bad: Record<string, string>,
): Problem[] {
    const conditions: KubernetesObject[] = status?.conditions ?? [];
    return conditions
        .filter((each) => bad[each.type] === each.status)
        .map(({ reason, message }) => ({ subject, reason, message }));
}

/** Reasons to wait that pass by themselves while a pod starts. */
const usual = ["ContainerCreating", "PodInitializing"];

function podProblems(pod: KubernetesObject): Problem[] {
    const subject = subjectOf("Pod", pod);
    const containers: KubernetesObject[] = pod.status?.containerStatuses ?? [];
    const stuck = containers.flatMap(
        ({ name, state: { waiting, terminated } = {}, lastState }): Problem[] => {
            const ended = terminated?.exitCode ? terminated : lastState?.terminated;
            const exit = ended
                ? ` Its last run ended with code ${ended.exitCode}. ${ended.message ?? ""}`
                : "";
            const reason = waiting?.reason ?? (terminated?.exitCode && terminated.reason);
            if (!reason || usual.includes(reason)) return [];
            const message = `${waiting?.message ?? ""}${exit}`.trim();
            return [{ subject: `${subject} container ${name}`, reason, message }];
        },
    );
    return [...conditionProblems(subject, pod, { PodScheduled: "False" }), ...stuck];
}

const subjectOf = (kind: string, { metadata }: KubernetesObject) =>
    `[${kind} ${metadata.namespace}/${metadata.name}]`;
