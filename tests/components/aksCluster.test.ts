import * as pulumi from "@pulumi/pulumi";
import { agentPoolProfile, architectureOf } from "../../components/agentPool";
import { AksCluster } from "../../components/aksCluster";
import {
    architecturesOfNew,
    clusterProperties,
    defaultDnsPrefix,
    type NewClusterArgs,
} from "../../components/clusterProperties";
import { inputsOf, mockedStack, resolved, settled, withGroup } from "./stack";

const clusterType = "azure-native:containerservice:ManagedCluster";

async function created(args: Partial<NewClusterArgs> = {}) {
    const mocks = await mockedStack();
    const cluster = new AksCluster("cluster", {
        resourceGroupName: await withGroup(mocks),
        name: "dev",
        ...args,
    });
    await settled();
    return { mocks, cluster };
}

describe("AksCluster", () => {
    it("brings the kubelet identity and an identity for the control plane", async () => {
        const { mocks, cluster } = await created();
        const { identity, identityProfile } = inputsOf(mocks, clusterType);
        const [kubelet] = mocks.of("azure-native:managedidentity:UserAssignedIdentity", "cluster-kubelet");
        const [controlPlane] = mocks.of(
            "azure-native:managedidentity:UserAssignedIdentity",
            "cluster-control-plane",
        );
        const { clientId, principalId } = mocks.azure.get(kubelet?.id ?? "");
        expect(identity).toEqual({ type: "UserAssigned", userAssignedIdentities: [controlPlane?.id] });
        expect(identityProfile).toEqual({
            kubeletidentity: { resourceId: kubelet?.id, clientId, objectId: principalId },
        });
        expect(await resolved(cluster.kubeletPrincipalId)).toBe(principalId);
    });

    it("lets the control plane use the kubelet identity, and nothing more", async () => {
        const { mocks } = await created();
        const [kubelet] = mocks.of("azure-native:managedidentity:UserAssignedIdentity", "cluster-kubelet");
        const [controlPlane] = mocks.of(
            "azure-native:managedidentity:UserAssignedIdentity",
            "cluster-control-plane",
        );
        expect(inputsOf(mocks, "azure-native:authorization:RoleAssignment")).toMatchObject({
            scope: kubelet?.id,
            principalId: mocks.azure.get(controlPlane?.id ?? "").principalId,
            principalType: "ServicePrincipal",
            roleDefinitionId: expect.stringMatching(/\/f1a07417-d97a-45cb-824c-7a7467783830$/),
        });
    });

    it("has the defaults of a development cluster, and leaves the version to AKS", async () => {
        const { mocks } = await created();
        const { identity, identityProfile, ...rest } = inputsOf(mocks, clusterType);
        expect(rest).toEqual({
            resourceGroupName: "team",
            resourceName: "dev",
            dnsPrefix: "dev",
            sku: { name: "Base", tier: "Free" },
            agentPoolProfiles: [
                {
                    name: "system",
                    mode: "System",
                    vmSize: "Standard_D4s_v5",
                    count: 2,
                    osType: "Linux",
                    osSKU: "AzureLinux",
                    type: "VirtualMachineScaleSets",
                    osDiskType: "Managed",
                    upgradeSettings: { maxSurge: "33%" },
                },
            ],
            networkProfile: {
                networkPlugin: "azure",
                networkPluginMode: "overlay",
                networkDataplane: "cilium",
                networkPolicy: "cilium",
                // The SDK's own defaults.
                dnsServiceIP: "10.0.0.10",
                outboundType: "loadBalancer",
                podCidr: "10.244.0.0/16",
                serviceCidr: "10.0.0.0/16",
            },
            oidcIssuerProfile: { enabled: true },
            securityProfile: {
                workloadIdentity: { enabled: true },
                imageCleaner: { enabled: true, intervalHours: 168 },
            },
            autoUpgradeProfile: { upgradeChannel: "patch", nodeOSUpgradeChannel: "NodeImage" },
            disableLocalAccounts: false,
            apiServerAccessProfile: { enablePrivateCluster: false },
        });
    });

    it("makes each further pool a resource of its own", async () => {
        const { mocks } = await created({
            userPools: [{ name: "apps", minCount: 2, maxCount: 5, zones: ["1", "2"] }],
        });
        expect(inputsOf(mocks, "azure-native:containerservice:AgentPool", "cluster-apps")).toEqual({
            agentPoolName: "apps",
            mode: "User",
            resourceGroupName: "team",
            resourceName: "dev",
            vmSize: "Standard_D4s_v5",
            count: 2,
            enableAutoScaling: true,
            minCount: 2,
            maxCount: 5,
            osType: "Linux",
            osSKU: "AzureLinux",
            type: "VirtualMachineScaleSets",
            osDiskType: "Managed",
            upgradeSettings: { maxSurge: "33%" },
            availabilityZones: ["1", "2"],
        });
    });

    it("tells a version to the nodes, too, unless there are further pools", async () => {
        const pool = "azure-native:containerservice:AgentPool";
        const one = await created({ kubernetesVersion: "1.35" });
        expect(inputsOf(one.mocks, clusterType).agentPoolProfiles[0].orchestratorVersion).toBe("1.35");
        const two = await created({ kubernetesVersion: "1.35", userPools: [{ name: "apps" }] });
        expect(inputsOf(two.mocks, clusterType).agentPoolProfiles[0]).not.toHaveProperty(
            "orchestratorVersion",
        );
        expect(inputsOf(two.mocks, pool, "cluster-apps").orchestratorVersion).toBe("1.35");
    });

    it("gives out its kubeconfig as a secret, and a provider that knows which cluster it is and mends its objects", async () => {
        const { mocks, cluster } = await created();
        expect(await resolved(cluster.kubeconfig)).toContain("current-context: dev");
        expect(await pulumi.isSecret(cluster.kubeconfig)).toBe(true);
        expect(inputsOf(mocks, "pulumi:providers:kubernetes")).toMatchObject({
            clusterIdentifier: "team/dev",
            enablePatchForce: "true",
        });
    });

    it("lets AKS make the identities for who may not assign roles", async () => {
        const { mocks, cluster } = await created({ ownIdentities: false });
        const { identity, identityProfile } = inputsOf(mocks, clusterType);
        expect({ identity, identityProfile }).toEqual({
            identity: { type: "SystemAssigned" },
            identityProfile: undefined,
        });
        const shown = mocks.azure.get(await resolved(cluster.clusterId));
        expect(await resolved(cluster.kubeletPrincipalId)).toBe(
            shown.identityProfile.kubeletidentity.objectId,
        );
        expect(mocks.of("azure-native:authorization:RoleAssignment")).toEqual([]);
    });

    it("makes nothing but its provider where the cluster is there already", async () => {
        const mocks = await mockedStack();
        const existing = {
            clusterId:
                "/subscriptions/s/resourceGroups/shared/providers/Microsoft.ContainerService/managedClusters/web",
            clusterName: "web",
            resourceGroupName: "shared",
            kubeletPrincipalId: "5b0d4a5e-1111-4222-8333-944445555666",
            kubeconfig: "kind: Config",
        };
        const cluster = new AksCluster("cluster", { existing });
        const { clusterId, clusterName, kubeletPrincipalId, kubeconfig } = cluster;
        expect(await resolved({ clusterId, clusterName, kubeletPrincipalId, kubeconfig })).toEqual({
            clusterId: existing.clusterId,
            clusterName: "web",
            kubeletPrincipalId: existing.kubeletPrincipalId,
            kubeconfig: "kind: Config",
        });
        expect(await pulumi.isSecret(kubeconfig)).toBe(true);
        expect(cluster.cluster).toBeUndefined();
        await settled();
        expect(mocks.resources.map(({ type }) => type).sort()).toEqual([
            "aks-acr:index:AksCluster",
            "pulumi:providers:kubernetes",
        ]);
        expect(inputsOf(mocks, "pulumi:providers:kubernetes").clusterIdentifier).toBe("shared/web");
    });
});

describe("the architectures of a new cluster's nodes", () => {
    it.each([
        ["the default pool's", {}, ["amd64"]],
        ["an Arm pool's", { systemPool: { vmSize: "Standard_D4ps_v6" } }, ["arm64"]],
        [
            "each pool's, once",
            {
                userPools: [
                    { name: "one", vmSize: "Standard_D4ps_v6" },
                    { name: "two", vmSize: "Standard_D8ps_v6" },
                ],
            },
            ["amd64", "arm64"],
        ],
        [
            "the user pools' where the system pool keeps others off",
            {
                systemPool: { onlyCriticalAddons: true },
                userPools: [{ name: "apps", vmSize: "Standard_D4ps_v6" }],
            },
            ["arm64"],
        ],
    ])("are %s", (_, args, architectures) => {
        expect(architecturesOfNew(args)).toEqual(architectures);
    });
});

describe("a cluster's properties", () => {
    const properties = (args: Partial<NewClusterArgs>) =>
        clusterProperties({ resourceGroupName: "team", name: "prod", ...args });

    it("keep other pods off a system pool that is for critical add-ons only", () => {
        const [systemPool] = properties({ systemPool: { onlyCriticalAddons: true } }).agentPoolProfiles;
        expect(systemPool).toMatchObject({ nodeTaints: ["CriticalAddonsOnly=true:NoSchedule"] });
    });

    it("turn Entra and Azure RBAC on for administrators, and local accounts off", () => {
        expect(properties({ localAccounts: false, adminGroupObjectIds: ["g1"] })).toMatchObject({
            disableLocalAccounts: true,
            aadProfile: { managed: true, enableAzureRBAC: true, adminGroupObjectIDs: ["g1"] },
        });
    });

    it("ask for long-term support in the Premium tier", () => {
        expect(properties({ tier: "Premium" })).toMatchObject({
            sku: { name: "Base", tier: "Premium" },
            supportPlan: "AKSLongTermSupport",
        });
        expect(properties({ tier: "Standard" })).not.toHaveProperty("supportPlan");
    });

    it("limit who reaches the API server", () => {
        expect(properties({ authorizedIpRanges: ["203.0.113.0/24"] }).apiServerAccessProfile).toEqual({
            enablePrivateCluster: false,
            authorizedIPRanges: ["203.0.113.0/24"],
        });
        expect(properties({ privateCluster: true }).apiServerAccessProfile).toEqual({
            enablePrivateCluster: true,
        });
    });

    it("pin a version only where one is asked for", () => {
        expect(properties({ kubernetesVersion: "1.35" })).toHaveProperty("kubernetesVersion", "1.35");
        expect(properties({})).not.toHaveProperty("kubernetesVersion");
    });
});

describe("a DNS prefix", () => {
    it.each([
        ["nginx_dev", "nginx-dev"],
        ["a".repeat(63), "a".repeat(54)],
        [`${"a".repeat(53)}-b`, "a".repeat(53)],
    ])("made from %s is valid", (name, prefix) => {
        expect(defaultDnsPrefix(name)).toBe(prefix);
    });
});

describe("an agent pool", () => {
    it("takes disks, zones and pods per node", () => {
        expect(
            agentPoolProfile({ osDiskType: "Ephemeral", zones: ["1"], maxPods: 50, count: 3 }),
        ).toMatchObject({
            osDiskType: "Ephemeral",
            availabilityZones: ["1"],
            maxPods: 50,
            count: 3,
        });
    });
});

describe("the architecture of a VM size", () => {
    it.each([
        ["Standard_D4s_v5", "amd64"],
        ["Standard_D4ps_v5", "arm64"],
        ["Standard_D2pls_v6", "arm64"],
        ["Standard_E4pds_v6", "arm64"],
        ["Standard_B2pts_v2", "arm64"],
        ["Standard_NP10s", "amd64"],
        ["Standard_E4-2s_v5", "amd64"],
    ])("%s is %s", (size, architecture) => {
        expect(architectureOf(size)).toBe(architecture);
    });
});
