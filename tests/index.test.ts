import * as pulumi from "@pulumi/pulumi";
import { existingTeam, mockedStack, resolved, settled } from "./components/stack";

jest.mock("../requirements.cjs", () => ({ dockerAnswers: async () => true }));

describe("the program", () => {
    it("needs no configuration, and wires the registry, the image and the cluster through the permission", async () => {
        const mocks = await mockedStack();
        jest.spyOn(globalThis, "fetch").mockResolvedValue(Response.json({ refresh_token: "registry token" }));
        const program = await (require("../index") as typeof import("../index"))();
        const outputs = await resolved(program);
        await settled();
        expect(Object.keys(outputs).sort()).toEqual([
            "clusterId",
            "clusterName",
            "deployment",
            "image",
            "imageDigest",
            "kubeconfig",
            "loginServer",
            "namespace",
            "pullAccess",
            "registryId",
            "registryName",
            "resourceGroupName",
        ]);
        expect(outputs.clusterName).toBe("nginx-dev");
        expect(outputs.registryName).toBe("aksnginxdevacrabcdef");
        expect(outputs.image).toBe(`aksnginxdevacrabcdef.azurecr.io/nginx@${outputs.imageDigest}`);
        const [kubelet] = mocks.of("azure-native:managedidentity:UserAssignedIdentity", "cluster-kubelet");
        expect(outputs.pullAccess.principalId).toBe(mocks.azure.get(kubelet?.id ?? "").principalId);
        expect(mocks.azure.canPull(outputs.pullAccess.principalId, outputs.registryId)).toBe(true);
        const [deployment] = mocks.of("kubernetes:apps/v1:Deployment");
        expect(deployment?.inputs.spec.template.spec.containers[0].image).toBe(outputs.image);
        expect(await pulumi.isSecret(program.kubeconfig)).toBe(true);
    });

    it("makes nothing but the permission and the workload where the team has all else", async () => {
        const mocks = await mockedStack();
        const scene = await existingTeam(mocks);
        const ref = `nginx@sha256:${"0".repeat(64)}`;
        pulumi.runtime.setAllConfig({
            "aks-acr:registry": JSON.stringify({ id: scene.registryId }),
            "aks-acr:cluster": JSON.stringify({ id: scene.clusterId }),
            "aks-acr:image": JSON.stringify({ ref }),
        });
        jest.spyOn(globalThis, "fetch").mockImplementation(async (url) =>
            String(url).includes("/v2/")
                ? Response.json({ manifests: [{ platform: { architecture: "amd64" } }] })
                : Response.json({ refresh_token: "refresh", access_token: "access" }),
        );
        const outputs = await resolved(await (require("../index") as typeof import("../index"))());
        await settled();
        expect(outputs).toMatchObject({
            resourceGroupName: "team",
            clusterName: "web",
            registryName: "teamimages",
            loginServer: "teamimages.azurecr.io",
            image: `teamimages.azurecr.io/${ref}`,
            pullAccess: { principalId: scene.kubeletPrincipalId, scope: scene.registryId, state: "assigned" },
        });
        const made = mocks.resources.map(({ type }) => type).filter((type) => !type.startsWith("aks-acr:"));
        expect(made.sort()).toEqual([
            "azure-native:authorization:RoleAssignment",
            "kubernetes:apps/v1:Deployment",
            "kubernetes:core/v1:Namespace",
            "kubernetes:core/v1:Service",
            "kubernetes:policy/v1:PodDisruptionBudget",
            "pulumi:providers:kubernetes",
        ]);
    });
});
