import { AcrPull } from "./components/acrPull";
import { AksCluster } from "./components/aksCluster";
import { ContainerImage } from "./components/containerImage";
import { ContainerRegistry } from "./components/containerRegistry";
import { NginxDeployment } from "./components/nginxDeployment";
import { resourceGroupName as groupNamed } from "./components/resourceGroup";
import { preflight } from "./preflight";
import { readSettings } from "./settings";

export = async () => {
    // What the team asks for and has already, checked before anything is touched.
    const plan = await preflight(readSettings());

    // A resource group to put everything into.
    const resourceGroupName = groupNamed("aks-acr", plan.resourceGroup, plan.clusterName);

    // A container registry, and an AKS cluster beside it.
    const { clusterName } = plan;
    const registry = new ContainerRegistry("registry", { resourceGroupName, clusterName, ...plan.registry });
    const cluster = new AksCluster("cluster", { resourceGroupName, ...plan.cluster });

    // The cluster's kubelet may pull from the registry, and from others; no passwords.
    const { kubeletPrincipalId: principalId } = cluster;
    const { registryId } = registry;
    const acrPull = new AcrPull("acr-pull", { registryId, principalId, ...plan.pull });
    const extraPulls = plan.extraPullFrom.map(
        ({ registryName, ...extra }) =>
            new AcrPull(`acr-pull-${registryName}`, { principalId, ...plan.pull, ...extra }),
    );

    // The nginx image: built or imported and pushed, or there already.
    const { loginServer } = registry;
    const nginxImage = new ContainerImage("nginx-image", { loginServer, ...plan.image });

    // nginx, running from exactly that image, once it may be pulled.
    const nginx = new NginxDeployment(
        "nginx",
        { provider: cluster.provider, cluster: cluster.cluster, image: nginxImage.ref, ...plan.workload },
        { dependsOn: acrPull },
    );

    return {
        resourceGroupName,
        clusterName: cluster.clusterName,
        clusterId: cluster.clusterId,
        registryName: registry.registryName,
        registryId,
        loginServer,
        image: nginxImage.ref,
        imageDigest: nginxImage.digest,
        kubeconfig: cluster.kubeconfig,
        namespace: nginx.namespace,
        deployment: nginx.deploymentName,
        pullAccess: acrPull.access,
        ...(extraPulls.length > 0 && { extraPullAccess: extraPulls.map(({ access }) => access) }),
    };
};
