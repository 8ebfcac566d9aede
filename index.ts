import { AcrPull } from "./components/acrPull";
import { AksCluster } from "./components/aksCluster";
import { ContainerImage } from "./components/containerImage";
import { ContainerRegistry } from "./components/containerRegistry";
import { NginxDeployment } from "./components/nginxDeployment";
import { resourceGroupName as groupNamed } from "./components/resourceGroup";
import { readSettings } from "./settings";

// What the team asked for, checked before anything is touched.
const settings = readSettings();
const { create: clusterSettings } = settings.cluster;

// A resource group to put everything into.
export const resourceGroupName = groupNamed(clusterSettings.name, settings.resourceGroup);

// A container registry, and an AKS cluster beside it.
const registry = new ContainerRegistry("registry", {
    resourceGroupName,
    clusterName: clusterSettings.name,
    ...settings.registry.create,
});
const cluster = new AksCluster("cluster", { resourceGroupName, ...clusterSettings });

// The cluster's kubelet may pull from the registry; no passwords.
const acrPull = new AcrPull("acr-pull", {
    registryId: registry.registryId,
    principalId: cluster.kubeletPrincipalId,
});

// The nginx image, built and pushed.
const nginxImage = new ContainerImage("nginx-image", {
    loginServer: registry.loginServer,
    repository: settings.image.repository,
    tag: settings.image.tag,
    build: { ...settings.image.build, platform: settings.image.build.platform ?? cluster.platform },
});

// nginx, running from exactly that image, once it may be pulled.
const nginx = new NginxDeployment(
    "nginx",
    { provider: cluster.provider, cluster: cluster.cluster, image: nginxImage.ref, ...settings.workload },
    { dependsOn: acrPull },
);

export const clusterName = cluster.clusterName;
export const clusterId = cluster.clusterId;
export const registryName = registry.registryName;
export const registryId = registry.registryId;
export const loginServer = registry.loginServer;
export const image = nginxImage.ref;
export const imageDigest = nginxImage.digest;
export const kubeconfig = cluster.kubeconfig;
export const namespace = nginx.namespace;
export const deployment = nginx.deploymentName;
export const pullAccess = acrPull.access;
