import { RoleAssignment } from "@pulumi/azure-native/authorization/roleAssignment.js";
import { AgentPool } from "@pulumi/azure-native/containerservice/agentPool.js";
import { listManagedClusterUserCredentialsOutput } from "@pulumi/azure-native/containerservice/listManagedClusterUserCredentials.js";
import { ManagedCluster } from "@pulumi/azure-native/containerservice/managedCluster.js";
import { UserAssignedIdentity } from "@pulumi/azure-native/managedidentity/userAssignedIdentity.js";
import { Provider } from "@pulumi/kubernetes/provider.js";
import * as pulumi from "@pulumi/pulumi";
import { assignmentName, roleDefinition } from "./acrPull";
import { agentPoolProfile, architectureOf, defaultVmSize } from "./agentPool";
import { type AksClusterArgs, clusterProperties } from "./clusterProperties";
import { explainRefusal, retryWhilePropagating } from "./errorHooks";

export type { AksClusterArgs } from "./clusterProperties";

/** The built-in role Managed Identity Operator: attach an identity to a resource. */
export const managedIdentityOperatorRole = "f1a07417-d97a-45cb-824c-7a7467783830";

/**
 * An AKS cluster that brings its own identities: what the kubelet may do can be granted before the cluster
 * exists, and editing the cluster never touches those grants.
 */
export class AksCluster extends pulumi.ComponentResource {
    /** Resource id of the cluster. */
    readonly clusterId: pulumi.Output<string>;
    /** Name of the cluster. */
    readonly clusterName: pulumi.Output<string>;
    /** Object id of the kubelet identity, which pulls images; known before the cluster is begun. */
    readonly kubeletPrincipalId: pulumi.Output<string>;
    /** Platform of the images that the nodes run. */
    readonly platform: "linux/amd64" | "linux/arm64";
    /** Credentials as a kubeconfig file's text; secret. */
    readonly kubeconfig: pulumi.Output<string>;
    /** Deploys to the cluster. */
    readonly provider: Provider;
    /** The cluster itself, for what lives and goes with it. */
    readonly cluster: pulumi.Resource;

    constructor(name: string, args: AksClusterArgs, opts?: pulumi.ComponentResourceOptions) {
        super("aks-acr:index:AksCluster", name, {}, opts);

        const shared = {
            resourceGroupName: args.resourceGroupName,
            ...(args.location !== undefined && { location: args.location }),
            ...(args.tags !== undefined && { tags: args.tags }),
        };
        // An identity that is updated previews with an unknown principal, and so with its role assignments replaced.
        const lasting = { parent: this, ignoreChanges: ["tags"] };
        const controlPlane = new UserAssignedIdentity(`${name}-control-plane`, shared, lasting);
        const kubelet = new UserAssignedIdentity(`${name}-kubelet`, shared, lasting);
        // AKS asks for this before it creates the cluster ("Use a pre-created kubelet managed identity").
        const mayUseKubelet = new RoleAssignment(
            `${name}-uses-kubelet`,
            {
                scope: kubelet.id,
                principalId: controlPlane.principalId,
                principalType: "ServicePrincipal",
                roleDefinitionId: kubelet.id.apply((id) => roleDefinition(id, managedIdentityOperatorRole)),
                roleAssignmentName: assignmentName(
                    kubelet.id,
                    controlPlane.principalId,
                    managedIdentityOperatorRole,
                ),
            },
            { parent: this, hooks: { onError: [explainRefusal(`${name}-uses-kubelet-refused`)] } },
        );
        const cluster = new ManagedCluster(
            name,
            {
                ...shared,
                ...clusterProperties(args),
                identity: { type: "UserAssigned", userAssignedIdentities: [controlPlane.id] },
                identityProfile: {
                    kubeletidentity: {
                        resourceId: kubelet.id,
                        clientId: kubelet.clientId,
                        objectId: kubelet.principalId,
                    },
                },
            },
            {
                parent: this,
                dependsOn: mayUseKubelet,
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
                    resourceGroupName: args.resourceGroupName,
                    resourceName: cluster.name,
                },
                { parent: this },
            );
        }

        this.cluster = cluster;
        this.clusterId = cluster.id;
        this.clusterName = cluster.name;
        this.kubeletPrincipalId = kubelet.principalId;
        this.platform = `linux/${architectureOf(args.systemPool?.vmSize ?? defaultVmSize)}`;
        const credentials = listManagedClusterUserCredentialsOutput(
            { resourceGroupName: args.resourceGroupName, resourceName: cluster.name },
            { parent: this },
        );
        this.kubeconfig = pulumi.secret(credentials.apply(({ kubeconfigs }) => firstKubeconfig(kubeconfigs)));
        this.provider = new Provider(
            name,
            // New credentials replace nothing; that a new cluster does is for `replaceWith` of what is on it to say.
            { kubeconfig: this.kubeconfig, clusterIdentifier: clusterIdentifier(args) },
            { parent: this },
        );
        this.registerOutputs({
            clusterId: this.clusterId,
            clusterName: this.clusterName,
            kubeletPrincipalId: this.kubeletPrincipalId,
            kubeconfig: this.kubeconfig,
        });
    }
}

/** Says which cluster it is, known before it exists. */
function clusterIdentifier({ resourceGroupName, name }: AksClusterArgs): pulumi.Output<string> {
    return pulumi.interpolate`${resourceGroupName}/${name}`;
}

function firstKubeconfig(kubeconfigs: { value: string }[]): string {
    return Buffer.from(kubeconfigs[0]?.value ?? "", "base64").toString("utf8");
}
