import { Provider } from "@pulumi/kubernetes/provider.js";
import { NginxDeployment, type NginxDeploymentArgs } from "../../components/nginxDeployment";
import { inputsOf, mockedStack, settled } from "./stack";

const image = `team.azurecr.io/nginx@sha256:${"0".repeat(64)}`;

async function deployed(args: Partial<NginxDeploymentArgs> = {}) {
    const mocks = await mockedStack();
    const provider = new Provider("cluster", { kubeconfig: "" });
    new NginxDeployment("nginx", { provider, image, ...args });
    await settled();
    return mocks;
}

describe("NginxDeployment", () => {
    it("runs in a namespace that enforces the restricted pod security standard", async () => {
        const mocks = await deployed({ namespace: "web" });
        expect(inputsOf(mocks, "kubernetes:core/v1:Namespace").metadata).toEqual({
            name: "web",
            labels: { "pod-security.kubernetes.io/enforce": "restricted" },
        });
        for (const type of ["apps/v1:Deployment", "core/v1:Service", "policy/v1:PodDisruptionBudget"]) {
            expect(inputsOf(mocks, `kubernetes:${type}`).metadata.namespace).toBe("web");
        }
    });

    it("is the article's Deployment, and never has a pod too few", async () => {
        const { metadata, spec } = inputsOf(await deployed(), "kubernetes:apps/v1:Deployment");
        expect(metadata.name).toBe("nginx0-deployment");
        expect(spec).toMatchObject({
            replicas: 2,
            selector: { matchLabels: { app: "nginx0" } },
            strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
            template: { metadata: { labels: { app: "nginx0" } } },
        });
    });

    it("runs the image by digest, as a user without rights, on a read-only file system", async () => {
        const pod = inputsOf(await deployed(), "kubernetes:apps/v1:Deployment").spec.template.spec;
        expect(pod.securityContext).toMatchObject({
            runAsNonRoot: true,
            runAsUser: 101,
            seccompProfile: { type: "RuntimeDefault" },
        });
        expect(pod.automountServiceAccountToken).toBe(false);
        expect(pod.containers).toHaveLength(1);
        expect(pod.containers[0]).toMatchObject({
            name: "nginx",
            image,
            ports: [{ name: "http", containerPort: 80 }],
            securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"] },
            },
        });
    });

    it("serves on while it is taken out of the Service", async () => {
        const pod = inputsOf(await deployed(), "kubernetes:apps/v1:Deployment").spec.template.spec;
        const { preStop } = pod.containers[0].lifecycle;
        expect(preStop).toEqual({ sleep: { seconds: 5 } });
        expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(preStop.sleep.seconds);
    });

    it("has the replicas and resources it is given", async () => {
        const resources = { requests: { cpu: "1", memory: "1Gi" }, limits: { cpu: "2", memory: "2Gi" } };
        const { spec } = inputsOf(
            await deployed({ replicas: 5, resources }),
            "kubernetes:apps/v1:Deployment",
        );
        expect(spec.replicas).toBe(5);
        expect(spec.template.spec.containers[0].resources).toEqual(resources);
    });

    it("runs on any node, or on those of the image's architecture", async () => {
        const pod = async (args: Partial<NginxDeploymentArgs>) =>
            inputsOf(await deployed(args), "kubernetes:apps/v1:Deployment").spec.template.spec;
        expect(await pod({})).not.toHaveProperty("nodeSelector");
        expect((await pod({ architecture: "arm64" })).nodeSelector).toEqual({
            "kubernetes.io/arch": "arm64",
        });
    });

    it.each(["apps/v1:Deployment", "core/v1:Service"])(
        "is waited for with its %s, unless told not to",
        async (kind) => {
            const annotations = async (args: Partial<NginxDeploymentArgs>) =>
                inputsOf(await deployed(args), `kubernetes:${kind}`).metadata.annotations;
            expect(await annotations({ waitSeconds: 60 })).toBeUndefined();
            expect(await annotations({ waitSeconds: 0 })).toEqual({ "pulumi.com/skipAwait": "true" });
        },
    );

    it("leaves the count of autoscaled pods to the autoscaler", async () => {
        const mocks = await deployed({ autoscale: { minReplicas: 3, maxReplicas: 10, cpuPercent: 70 } });
        expect(inputsOf(mocks, "kubernetes:apps/v1:Deployment").spec).not.toHaveProperty("replicas");
        const target = { type: "Utilization", averageUtilization: 70 };
        expect(inputsOf(mocks, "kubernetes:autoscaling/v2:HorizontalPodAutoscaler").spec).toEqual({
            scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "nginx0-deployment" },
            minReplicas: 3,
            maxReplicas: 10,
            metrics: [{ type: "Resource", resource: { name: "cpu", target } }],
        });
        expect((await deployed()).of("kubernetes:autoscaling/v2:HorizontalPodAutoscaler")).toEqual([]);
    });

    it("is reached through a Service, and drained one pod at a time", async () => {
        const mocks = await deployed();
        expect(inputsOf(mocks, "kubernetes:core/v1:Service").spec).toEqual({
            selector: { app: "nginx0" },
            ports: [{ port: 80, targetPort: "http" }],
        });
        expect(inputsOf(mocks, "kubernetes:policy/v1:PodDisruptionBudget").spec).toEqual({
            maxUnavailable: 1,
            selector: { matchLabels: { app: "nginx0" } },
        });
    });
});
