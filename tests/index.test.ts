import * as pulumi from "@pulumi/pulumi";
import { mockedStack, resolved, settled } from "./components/stack";

describe("the program", () => {
    it("needs no configuration, and wires the registry, the image and the cluster through the permission", async () => {
        const mocks = await mockedStack();
        jest.spyOn(globalThis, "fetch").mockResolvedValue(Response.json({ refresh_token: "registry token" }));
        // After the mocks are set: loading it runs it.
        const program = require("../index") as typeof import("../index");
        const outputs = await resolved({ ...program });
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
});
