import { AcrPull } from "./components/acrPull";
import { AksCluster } from "./components/aksCluster";
import { ContainerImage } from "./components/containerImage";
import { ContainerRegistry } from "./components/containerRegistry";
import { NginxDeployment } from "./components/nginxDeployment";
import { promotionOf } from "./components/promotion";
import { resourceGroupName as groupNamed } from "./components/resourceGroup";
import { preflight } from "./preflight";
import { readSettings } from "./settings";

export = async () => {
    // What the team asks for and has already, checked before anything is touched.
    const plan = await preflight(readSettings());

    // A resource group to put everything into.
    const { clusterName, protect, tags } = plan;
    const resourceGroupName = groupNamed("aks-acr", plan.resourceGroup, clusterName, { tags, protect });

    // A container registry, and an AKS cluster beside it.
    const place = { resourceGroupName, clusterName };
    const registry = new ContainerRegistry("registry", { ...place, ...plan.registry }, { protect });
    const cluster = new AksCluster("cluster", { ...place, ...plan.cluster }, { protect });

    // The cluster's kubelet may pull from the registry, and from others; no passwords.
    const { registryId, loginServer } = registry;
    const principalId = cluster.kubeletPrincipalId;
    const acrPull = new AcrPull("acr-pull", { registryId, principalId, ...plan.pull });
    const extraPulls = plan.extraPullFrom.map(
        ({ registryName, ...extra }) =>
            new AcrPull(`acr-pull-${registryName}`, { principalId, ...plan.pull, ...extra }),
    );

    // The nginx image: built, imported or promoted, or there already.
    const nginxImage = new ContainerImage("nginx-image", { loginServer, ...plan.image });

    // nginx, running from exactly that image, once it may be pulled.
    const nginx = new NginxDeployment(
        "nginx",
        { provider: cluster.provider, cluster: cluster.cluster, image: nginxImage.ref, ...plan.workload },
        { dependsOn: acrPull },
    );

    const promotion = promotionOf("promotion", plan.promoted);
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
        ...(promotion && { promotion }),
        ...(extraPulls.length > 0 && { extraPullAccess: extraPulls.map(({ access }) => access) }),
    };
};
