import { getRegistry } from "@pulumi/azure-native/containerregistry/getRegistry.js";
import { getManagedCluster } from "@pulumi/azure-native/containerservice/getManagedCluster.js";
import { listManagedClusterUserCredentials } from "@pulumi/azure-native/containerservice/listManagedClusterUserCredentials.js";
import * as pulumi from "@pulumi/pulumi";
import { type Architecture, architecturesOf } from "./agentPool";
import { type ClusterLogin, usableKubeconfig } from "./kubeconfig";

// Adopting is reading: what is there already is looked up, never imported into the state, and survives `destroy`.

/** A registry that is there already. */
export interface ExistingRegistry {
    /** Resource id. */
    registryId: string;
    /** Name as Azure knows it. */
    registryName: string;
    /** Host that images are pushed to and pulled from. */
    loginServer: string;
}

/** A cluster that is there already. */
export interface ExistingCluster {
    /** Resource id. */
    clusterId: string;
    /** Name of the cluster. */
    clusterName: string;
    /** Resource group that it is in. */
    resourceGroupName: string;
    /** Object id of the identity that pulls images; undefined where the cluster has a service principal instead. */
    kubeletPrincipalId: string | undefined;
    /** Application id of the service principal of a cluster without managed identity. */
    servicePrincipal: string | undefined;
    /** Whether it runs; a stopped cluster has no API server. */
    running: boolean;
    /** Architectures of its Linux nodes that take pods. */
    architectures: Architecture[];
}

/** A cluster that is there already, and what it takes to use it. */
export interface UsableCluster {
    /** Resource id. */
    clusterId: string;
    /** Name of the cluster. */
    clusterName: string;
    /** Resource group that it is in. */
    resourceGroupName: string;
    /** Object id of the identity that pulls images. */
    kubeletPrincipalId: string;
    /** Credentials as a kubeconfig file's text; secret. */
    kubeconfig: pulumi.Input<string>;
}

/**
 * Looks a registry up.
 *
 * @param options `provider` reaches another subscription than the configured one.
 * @throws Error with the provider's message, which quotes Azure's code, such as `ResourceNotFound`.
 */
export async function findRegistry(
    args: { resourceGroupName: string; registryName: string },
    options: pulumi.InvokeOptions = {},
): Promise<ExistingRegistry> {
    const { id, name, loginServer } = await getRegistry(args, options);
    return { registryId: id, registryName: name, loginServer };
}

/** Looks a cluster up; as {@link findRegistry}. */
export async function findCluster(
    args: { resourceGroupName: string; resourceName: string },
    options: pulumi.InvokeOptions = {},
): Promise<ExistingCluster> {
    const cluster = await getManagedCluster(args, options);
    const { clientId } = cluster.servicePrincipalProfile ?? {};
    return {
        clusterId: cluster.id,
        clusterName: cluster.name,
        resourceGroupName: args.resourceGroupName,
        kubeletPrincipalId: cluster.identityProfile?.kubeletidentity?.objectId,
        // Clusters with a managed identity say "msi" here.
        servicePrincipal: clientId === "msi" ? undefined : clientId,
        running: cluster.powerState?.code !== "Stopped",
        architectures: architecturesOf(cluster.agentPoolProfiles ?? []),
    };
}

/** Credentials for a cluster as a kubeconfig file's text; secret. As {@link findRegistry}. */
export async function findKubeconfig(
    args: { resourceGroupName: string; resourceName: string },
    login: ClusterLogin,
    options: pulumi.InvokeOptions = {},
): Promise<pulumi.Output<string>> {
    const { kubeconfigs } = await listManagedClusterUserCredentials(args, options);
    return pulumi.secret(usableKubeconfig(kubeconfigs, login));
}
