// The same resources as the program's, in the style of the public examples: one file, package roots imported,
// type-checked by ts-node at every run. It is here to be measured against, not to be used.
import * as authorization from "@pulumi/azure-native/authorization";
import * as containerregistry from "@pulumi/azure-native/containerregistry";
import * as containerservice from "@pulumi/azure-native/containerservice";
import * as managedidentity from "@pulumi/azure-native/managedidentity";
import * as resources from "@pulumi/azure-native/resources";
import * as docker from "@pulumi/docker";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";

const config = new pulumi.Config();
const nodeCount = config.getNumber("nodeCount") ?? 2;
const roles = "/providers/Microsoft.Authorization/roleDefinitions";

const resourceGroup = new resources.ResourceGroup("rg");
const suffix = new random.RandomString("suffix", { length: 6, special: false, upper: false });

const registry = new containerregistry.Registry("registry", {
    resourceGroupName: resourceGroup.name,
    registryName: pulumi.interpolate`aksbenchacr${suffix.result}`,
    sku: { name: "Basic" },
    adminUserEnabled: false,
});

const controlPlane = new managedidentity.UserAssignedIdentity("control-plane", {
    resourceGroupName: resourceGroup.name,
});
const kubelet = new managedidentity.UserAssignedIdentity("kubelet", {
    resourceGroupName: resourceGroup.name,
});

const operator = new authorization.RoleAssignment("operator", {
    scope: kubelet.id,
    principalId: controlPlane.principalId,
    principalType: "ServicePrincipal",
    roleDefinitionId: `${roles}/f1a07417-d97a-45cb-824c-7a7467783830`,
});
const acrPull = new authorization.RoleAssignment("acr-pull", {
    scope: registry.id,
    principalId: kubelet.principalId,
    principalType: "ServicePrincipal",
    roleDefinitionId: `${roles}/7f951dda-4ed3-4680-a7ca-43fe172d538d`,
});

const cluster = new containerservice.ManagedCluster(
    "cluster",
    {
        resourceGroupName: resourceGroup.name,
        dnsPrefix: "bench",
        identity: { type: "UserAssigned", userAssignedIdentities: [controlPlane.id] },
        identityProfile: {
            kubeletidentity: {
                resourceId: kubelet.id,
                clientId: kubelet.clientId,
                objectId: kubelet.principalId,
            },
        },
        agentPoolProfiles: [
            { name: "system", mode: "System", count: nodeCount, vmSize: "Standard_D4s_v5", osType: "Linux" },
        ],
    },
    { dependsOn: operator },
);

const credentials = containerservice.listManagedClusterUserCredentialsOutput({
    resourceGroupName: resourceGroup.name,
    resourceName: cluster.name,
});
const kubeconfig = credentials.kubeconfigs.apply((all) =>
    Buffer.from(all[0]?.value ?? "", "base64").toString(),
);
const provider = new k8s.Provider("k8s", { kubeconfig });

const image = new docker.Image("image", {
    imageName: pulumi.interpolate`${registry.loginServer}/nginx:v1`,
    build: { context: "../../app", platform: "linux/amd64" },
    skipPush: true,
});

const labels = { app: "nginx0" };
const namespace = new k8s.core.v1.Namespace("nginx", {}, { provider });
const metadata = { namespace: namespace.metadata.name, labels };
new k8s.apps.v1.Deployment(
    "nginx",
    {
        metadata,
        spec: {
            replicas: 2,
            selector: { matchLabels: labels },
            template: {
                metadata: { labels },
                spec: {
                    containers: [{ name: "nginx", image: image.repoDigest, ports: [{ containerPort: 80 }] }],
                },
            },
        },
    },
    { provider, dependsOn: acrPull },
);
new k8s.core.v1.Service(
    "nginx",
    { metadata, spec: { selector: labels, ports: [{ port: 80 }] } },
    { provider },
);
new k8s.policy.v1.PodDisruptionBudget(
    "nginx",
    { metadata, spec: { maxUnavailable: 1, selector: { matchLabels: labels } } },
    { provider },
);

export const loginServer = registry.loginServer;
export const clusterName = cluster.name;
