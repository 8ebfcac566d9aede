import type { KubernetesObject } from "../../../sandbox/kubernetes/client";
import { deploymentReadiness, serviceReadiness } from "../../../sandbox/providers/readiness";

const revision = (number: string) => ({ "deployment.kubernetes.io/revision": number });
const ownedBy = (uid: string) => [{ uid }];
const ready = { replicas: 2, updatedReplicas: 2, availableReplicas: 2, observedGeneration: 3 };

const deployment = (status: KubernetesObject, replicas = 2): KubernetesObject => ({
    metadata: { namespace: "nginx", name: "nginx0", uid: "d", generation: 3, annotations: revision("2") },
    spec: { replicas },
    status,
});
const replicaSet = (number: string, availableReplicas: number): KubernetesObject => ({
    metadata: { uid: `rs${number}`, annotations: revision(number), ownerReferences: ownedBy("d") },
    status: { availableReplicas },
});
const pod = (name: string, owner: string, status: KubernetesObject): KubernetesObject => ({
    metadata: { namespace: "nginx", name, ownerReferences: ownedBy(owner) },
    status,
});
const waiting = (reason: string, message?: string, lastState = {}) => ({
    containerStatuses: [{ name: "nginx", state: { waiting: { reason, message } }, lastState }],
});

describe("a Deployment", () => {
    it("is ready when all replicas are new and available and no old one is left", () => {
        expect(deploymentReadiness(deployment(ready), [replicaSet("2", 2)], [])).toMatchObject({
            ready: true,
        });
    });

    it("is ready with no replicas when none are wanted", () => {
        const none = deployment({ observedGeneration: 3 }, 0);
        expect(deploymentReadiness(none, [replicaSet("2", 0)], []).ready).toBe(true);
    });

    it.each<[string, KubernetesObject, number, string]>([
        [
            "its controller has not seen the change",
            { ...ready, observedGeneration: 2 },
            2,
            "Waiting for the Deployment controller",
        ],
        ["nothing has begun", {}, 0, "Waiting for the Deployment controller"],
        [
            "new pods are not available",
            { ...ready, availableReplicas: 1 },
            1,
            "Waiting for app ReplicaSet to be available (1/2 Pods available)",
        ],
        [
            "some are not of the new template",
            { ...ready, updatedReplicas: 1 },
            1,
            "Waiting for app ReplicaSet to be available (1/2 Pods available)",
        ],
        ["old pods are left", { ...ready, replicas: 3 }, 2, "Waiting for 1 old Pods to be gone"],
    ])("is not ready while %s", (_what, status, available, message) => {
        expect(deploymentReadiness(deployment(status), [replicaSet("2", available)], [])).toMatchObject({
            ready: false,
            message,
        });
    });

    it("counts the pods of the new ReplicaSet only", () => {
        const sets = [replicaSet("1", 2), replicaSet("2", 0)];
        const status = { ...ready, replicas: 3, updatedReplicas: 1 };
        expect(deploymentReadiness(deployment(status), sets, []).message).toContain("(0/2 Pods available)");
    });

    it("tells why an image cannot be pulled, of the new pods and not of the old", () => {
        const status = { ...ready, updatedReplicas: 1 };
        const pods = [
            pod("new", "rs2", waiting("ImagePullBackOff", "401 Unauthorized")),
            pod("old", "rs1", waiting("ImagePullBackOff", "not found")),
            pod("starting", "rs2", waiting("ContainerCreating")),
        ];
        expect(deploymentReadiness(deployment(status), [replicaSet("2", 0)], pods).problems).toEqual([
            {
                subject: "[Pod nginx/new] container nginx",
                reason: "ImagePullBackOff",
                message: "401 Unauthorized",
            },
        ]);
    });

    it("tells how a container that crashes ended", () => {
        const status = { ...ready, updatedReplicas: 1 };
        const last = { terminated: { exitCode: 1, message: "no such file" } };
        const pods = [pod("new", "rs2", waiting("CrashLoopBackOff", "back-off 10s", last))];
        expect(deploymentReadiness(deployment(status), [replicaSet("2", 0)], pods).problems).toEqual([
            {
                subject: "[Pod nginx/new] container nginx",
                reason: "CrashLoopBackOff",
                message: "back-off 10s Its last run ended with code 1. no such file",
            },
        ]);
    });

    it("tells which pods find no node, and which may not be made", () => {
        const refused = {
            type: "ReplicaFailure",
            status: "True",
            reason: "FailedCreate",
            message: "violates PodSecurity",
        };
        const fine = { type: "Progressing", status: "True", reason: "ReplicaSetUpdated", message: "fine" };
        const status = { ...ready, updatedReplicas: 1, conditions: [refused, fine] };
        const unscheduled = {
            type: "PodScheduled",
            status: "False",
            reason: "Unschedulable",
            message: "0/1 nodes",
        };
        const pods = [pod("new", "rs2", { conditions: [unscheduled] })];
        expect(deploymentReadiness(deployment(status), [replicaSet("2", 0)], pods).problems).toEqual([
            { subject: "[Deployment nginx/nginx0]", reason: "FailedCreate", message: "violates PodSecurity" },
            { subject: "[Pod nginx/new]", reason: "Unschedulable", message: "0/1 nodes" },
        ]);
    });
});

describe("a Service", () => {
    const slice = (...endpoints: KubernetesObject[]) => [{ endpoints }];

    it("is ready once an endpoint of it is", () => {
        expect(serviceReadiness([])).toEqual({
            ready: false,
            message: "Finding Pods to direct traffic to: .spec.selector selects none that is ready yet",
            problems: [],
        });
        expect(serviceReadiness(slice({ conditions: { ready: false } })).ready).toBe(false);
        expect(serviceReadiness(slice({ conditions: { ready: true } })).ready).toBe(true);
    });
});
