import { AgentPool } from "@pulumi/azure-native/containerservice/agentPool.js";
import { listManagedClusterUserCredentials } from "@pulumi/azure-native/containerservice/listManagedClusterUserCredentials.js";
import { ManagedCluster } from "@pulumi/azure-native/containerservice/managedCluster.js";
import { Provider } from "@pulumi/kubernetes/provider.js";
import * as pulumi from "@pulumi/pulumi";
import { agentPoolProfile, isAutoscaled } from "./agentPool";
import { clusterIdentities } from "./clusterIdentities";
import { clusterProperties, type NewClusterArgs, placed } from "./clusterProperties";
import { retryWhilePropagating } from "./errorHooks";
import type { UsableCluster } from "./existing";
import { usableKubeconfig } from "./kubeconfig";
import { UserError } from "./userError";

export type { NewClusterArgs } from "./clusterProperties";

/** What AksCluster needs: what to create, or what is there already and never changed. */
export type AksClusterArgs = NewClusterArgs | { existing: UsableCluster };

/**
 * An AKS cluster. A new one brings its own identities: what the kubelet may do can be granted before the cluster exists, and
 * editing the cluster never touches those grants. One that is there already is read and left as it is.
 */
export class AksCluster extends pulumi.ComponentResource {
    /** Resource id of the cluster. */
    readonly clusterId: pulumi.Output<string>;
    /** Name of the cluster. */
    readonly clusterName: pulumi.Output<string>;
    /** Object id of the kubelet identity, which pulls images; of a new cluster that brings it, known before the cluster is begun. */
    readonly kubeletPrincipalId: pulumi.Output<string>;
    /** Credentials as a kubeconfig file's text; secret. */
    readonly kubeconfig: pulumi.Output<string>;
    /** Deploys to the cluster. */
    readonly provider: Provider;
    /** The cluster itself where this component made it, for what lives and goes with it. */
    readonly cluster: pulumi.Resource | undefined;

    constructor(name: string, args: AksClusterArgs, opts?: pulumi.ComponentResourceOptions) {
        super("aks-acr:index:AksCluster", name, {}, opts);

        const cluster = "existing" in args ? args.existing : this.create(name, args);
        this.cluster = "resource" in cluster ? cluster.resource : undefined;
        this.clusterId = pulumi.output(cluster.clusterId);
        this.clusterName = pulumi.output(cluster.clusterName);
        this.kubeletPrincipalId = pulumi.output(cluster.kubeletPrincipalId);
        this.kubeconfig = pulumi.secret(cluster.kubeconfig);
        this.provider = new Provider(
            name,
            {
                kubeconfig: this.kubeconfig,
                // Says which cluster it is, known before it exists: new credentials replace nothing. That a new cluster does
                // is for `replaceWith` of what is on it to say.
                clusterIdentifier: pulumi.interpolate`${cluster.resourceGroupName}/${"existing" in args ? cluster.clusterName : args.name}`,
                // What the program says of its objects holds: also a field that `kubectl scale` has taken is mended.
                enablePatchForce: true,
            },
            { parent: this },
        );
        this.registerOutputs({
            clusterId: this.clusterId,
            clusterName: this.clusterName,
            kubeletPrincipalId: this.kubeletPrincipalId,
            kubeconfig: this.kubeconfig,
        });
    }

    private create(name: string, args: NewClusterArgs) {
        const brought =
            args.ownIdentities === false ? undefined : clusterIdentities(name, placed(args), this);
        const cluster = new ManagedCluster(
            name,
            {
                ...placed(args),
                ...clusterProperties(args),
                identity: { type: "SystemAssigned" as const },
                ...brought?.properties,
            },
            {
                parent: this,
                dependsOn: brought?.grant ?? [],
                // Beside pools of their own, a refresh may put another pool in this place.
                ignoreChanges:
                    isAutoscaled(args.systemPool ?? {}) && !args.userPools?.length
                        ? ["agentPoolProfiles[0].count"]
                        : [],
                hooks: { onError: [retryWhilePropagating(`${name}-propagating`)] },
            },
        );
        for (const pool of args.userPools ?? []) {
            new AgentPool(
                `${name}-${pool.name}`,
                {
                    ...agentPoolProfile(pool),
                    agentPoolName: pool.name,
                    mode: "User",
                    ...(args.kubernetesVersion !== undefined && {
                        orchestratorVersion: args.kubernetesVersion,
                    }),
                    resourceGroupName: args.resourceGroupName,
                    resourceName: cluster.name,
                },
                { parent: this, ignoreChanges: isAutoscaled(pool) ? ["count"] : [] },
            );
        }
        const credentials = pulumi
            .all([args.resourceGroupName, cluster.name, cluster.urn])
            .apply(([resourceGroupName, resourceName, urn]) =>
                listManagedClusterUserCredentials(
                    { resourceGroupName, resourceName },
                    { parent: this },
                ).catch((error: Error) => {
                    throw goneOr(error, resourceName, urn);
                }),
            );
        return {
            resource: cluster,
            clusterId: cluster.id,
            clusterName: cluster.name,
            resourceGroupName: args.resourceGroupName,
            kubeletPrincipalId: brought?.kubeletPrincipalId ?? kubeletOf(cluster),
            kubeconfig: credentials.apply(({ kubeconfigs }) =>
                usableKubeconfig(kubeconfigs, args.login ?? "azurecli"),
            ),
        };
    }
}

/** What to do about a cluster that somebody deleted, or the error itself. */
function goneOr(error: Error, name: string, urn: string): Error {
    if (!/Status=404|ResourceNotFound/.test(error.message)) return error;
    return new UserError(
        `The cluster ${name}, which this stack made, is gone from Azure. \`pulumi state delete --target-dependents '${urn}'\` ` +
            "lets the stack forget it and what was on it; `pulumi up` then makes both anew. `pulumi destroy` works as it is.",
    );
}

/** Object id of the kubelet identity that AKS made. */
function kubeletOf(cluster: ManagedCluster): pulumi.Output<string> {
    return cluster.identityProfile.apply((profile) => profile?.kubeletidentity?.objectId ?? "");
}
