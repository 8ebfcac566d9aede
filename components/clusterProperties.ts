import type * as pulumi from "@pulumi/pulumi";
import { type AgentPoolArgs, type Architecture, agentPoolProfile, architecturesOf } from "./agentPool";
import type { ClusterLogin } from "./kubeconfig";

/** A cluster to create. The defaults suit a development cluster; each has the production value beside it. */
export interface NewClusterArgs {
    /** Resource group to create the cluster in. */
    resourceGroupName: pulumi.Input<string>;
    /** Name of the cluster, 1 to 63 letters, digits, - and _. */
    name: string;
    /** First label of the API server's host name, 1 to 54 letters, digits and -. A change replaces the cluster. Default: from the name. */
    dnsPrefix?: string | undefined;
    /** `Free` (default), `Standard` for an API server with an SLA, `Premium` for long-term support. */
    tier?: "Free" | "Standard" | "Premium" | undefined;
    /**
     * Kubernetes version, such as `1.35`, of the control plane and of the nodes; beside user pools the system pool's nodes
     * stay behind until somebody upgrades them ("Upgrade node pools"). Default: AKS's own, upgraded by `upgradeChannel`.
     */
    kubernetesVersion?: pulumi.Input<string> | undefined;
    /** What AKS upgrades by itself. Default: `patch`. */
    upgradeChannel?: "none" | "patch" | "stable" | "rapid" | "node-image" | undefined;
    /** The pool that AKS's own pods run on; `onlyCriticalAddons` keeps all others off. */
    systemPool?: (AgentPoolArgs & { onlyCriticalAddons?: boolean | undefined }) | undefined;
    /** Further pools, each a resource of its own. */
    userPools?: (AgentPoolArgs & { name: string })[] | undefined;
    /** Whether a client certificate without Microsoft Entra lets one in. Default: true; production: false. */
    localAccounts?: boolean | undefined;
    /** Microsoft Entra groups whose members administer the cluster; any entry turns Entra and Azure RBAC on. */
    adminGroupObjectIds?: pulumi.Input<string>[] | undefined;
    /** How kubectl logs in where the cluster has Microsoft Entra. Default: `azurecli`, whoever ran `az login`. */
    login?: ClusterLogin | undefined;
    /**
     * Whether to bring the identities, which takes the right to assign roles; false lets AKS make them. For the cluster's
     * life: a cluster keeps the kubelet identity that it has. Default: true.
     */
    ownIdentities?: boolean | undefined;
    /** CIDRs that may reach the API server. Default: all. */
    authorizedIpRanges?: pulumi.Input<string>[] | undefined;
    /** Whether the API server has a private address only. Default: false. */
    privateCluster?: boolean | undefined;
    /** Azure region. Default: the provider's, else the resource group's. */
    location?: pulumi.Input<string> | undefined;
    /** Tags of the cluster and its identities. */
    tags?: pulumi.Input<Record<string, pulumi.Input<string>>> | undefined;
}

/** The cluster's own properties; what is unset is left to AKS, so that its defaults can move on. */
export function clusterProperties(args: NewClusterArgs) {
    const { onlyCriticalAddons, ...systemPool } = args.systemPool ?? {};
    const entra = (args.adminGroupObjectIds ?? []).length > 0;
    return {
        resourceName: args.name,
        dnsPrefix: args.dnsPrefix ?? defaultDnsPrefix(args.name),
        ...(args.kubernetesVersion !== undefined && { kubernetesVersion: args.kubernetesVersion }),
        sku: { name: "Base", tier: args.tier ?? "Free" },
        // Long-term support is what the Premium tier is for; AKS wants both said ("Long-term support").
        ...(args.tier === "Premium" && { supportPlan: "AKSLongTermSupport" }),
        agentPoolProfiles: [
            {
                ...agentPoolProfile(systemPool),
                name: "system",
                mode: "System",
                // Nodes follow only when told. The cluster may tell all of its pools or none, so with pools of their own it is none.
                ...(args.kubernetesVersion !== undefined &&
                    !args.userPools?.length && { orchestratorVersion: args.kubernetesVersion }),
                ...(onlyCriticalAddons && { nodeTaints: ["CriticalAddonsOnly=true:NoSchedule"] }),
            },
        ],
        networkProfile: {
            networkPlugin: "azure",
            networkPluginMode: "overlay",
            networkDataplane: "cilium",
            networkPolicy: "cilium",
        },
        oidcIssuerProfile: { enabled: true },
        securityProfile: {
            workloadIdentity: { enabled: true },
            imageCleaner: { enabled: true, intervalHours: 168 },
        },
        autoUpgradeProfile: {
            upgradeChannel: args.upgradeChannel ?? "patch",
            nodeOSUpgradeChannel: "NodeImage",
        },
        disableLocalAccounts: !(args.localAccounts ?? true),
        ...(entra && {
            aadProfile: {
                managed: true,
                enableAzureRBAC: true,
                adminGroupObjectIDs: args.adminGroupObjectIds ?? [],
            },
        }),
        apiServerAccessProfile: {
            enablePrivateCluster: args.privateCluster ?? false,
            ...(args.authorizedIpRanges?.length && { authorizedIPRanges: args.authorizedIpRanges }),
        },
    };
}

/** A DNS prefix from a cluster's name: 1 to 54 letters, digits and -, with a letter or digit at both ends ("AKS naming rules"). */
export function defaultDnsPrefix(clusterName: string): string {
    return clusterName
        .replace(/[^a-zA-Z0-9]+/g, "-")
        .slice(0, 54)
        .replace(/-+$/, "");
}

/** Where the cluster and its identities are, and their tags. */
export function placed(args: NewClusterArgs) {
    return {
        resourceGroupName: args.resourceGroupName,
        ...(args.location !== undefined && { location: args.location }),
        ...(args.tags !== undefined && { tags: args.tags }),
    };
}

/** Architectures of a new cluster's nodes that nginx may run on. */
export function architecturesOfNew(args: Pick<NewClusterArgs, "systemPool" | "userPools">): Architecture[] {
    const { agentPoolProfiles } = clusterProperties({ ...args, name: "", resourceGroupName: "" });
    return architecturesOf([...agentPoolProfiles, ...(args.userPools ?? [])]);
}
