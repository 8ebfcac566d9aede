import type * as pulumi from "@pulumi/pulumi";

/** Size and shape of an agent pool: a group of equal nodes. */
export interface AgentPoolArgs {
    /** VM size; its architecture decides which images run. Default: {@link defaultVmSize}. */
    vmSize?: string | undefined;
    /** Nodes, where the pool is not autoscaled. Default: 2, the least that survives the loss of one. */
    count?: number | undefined;
    /** Fewest nodes of an autoscaled pool, and those it has at first; set together with `maxCount`. */
    minCount?: number | undefined;
    /** Most nodes of an autoscaled pool. */
    maxCount?: number | undefined;
    /** Availability zones to spread the nodes over, such as `["1", "2", "3"]`. Default: none. */
    zones?: string[] | undefined;
    /** Pods a node may run, 10 to 250. Default: AKS's. */
    maxPods?: number | undefined;
    /** `Managed` (default), or `Ephemeral` for VM sizes with a large enough local disk. */
    osDiskType?: "Managed" | "Ephemeral" | undefined;
}

/** Four cores, what AKS asks of a system pool ("Use system node pools"). */
export const defaultVmSize = "Standard_D4s_v5";

/** Whether AKS's autoscaler says how many nodes a pool has; the stack then does at first only. */
export function isAutoscaled({ minCount, maxCount }: AgentPoolArgs): boolean {
    return minCount !== undefined && maxCount !== undefined;
}

/** The properties that an inline pool of a cluster and an agent pool resource have in common. */
export function agentPoolProfile(args: AgentPoolArgs) {
    const autoscaled = isAutoscaled(args);
    return {
        vmSize: args.vmSize ?? defaultVmSize,
        count: autoscaled ? args.minCount : (args.count ?? 2),
        ...(autoscaled && { enableAutoScaling: true, minCount: args.minCount, maxCount: args.maxCount }),
        osType: "Linux",
        osSKU: "AzureLinux",
        type: "VirtualMachineScaleSets",
        osDiskType: args.osDiskType ?? "Managed",
        upgradeSettings: { maxSurge: "33%" },
        ...(args.zones?.length && { availabilityZones: args.zones }),
        ...(args.maxPods !== undefined && { maxPods: args.maxPods }),
    } satisfies Record<string, pulumi.Input<unknown>>;
}

/** Processor architectures, as Kubernetes and images name them. */
export type Architecture = "amd64" | "arm64";

/**
 * Processor architecture of a VM size: a `p` among the letters behind the number of cores means Arm
 * ("Virtual machine sizes overview", naming conventions), as in `Standard_D4ps_v6`.
 */
export function architectureOf(vmSize: string): Architecture {
    return /^Standard_[A-Z]+\d+(-\d+)?[a-z]*p/.test(vmSize) ? "arm64" : "amd64";
}

/** What a pool says about the nodes it has, in a cluster's settings or as AKS shows it. */
export interface PoolProfile {
    vmSize?: string | undefined;
    osType?: string | undefined;
    nodeTaints?: string[] | undefined;
}

/** Architectures of the Linux nodes that take pods other than AKS's own; each once, amd64 first, which most images are there for. */
export function architecturesOf(pools: PoolProfile[]): Architecture[] {
    const linux = pools.filter(({ osType }) => osType !== "Windows");
    const open = linux.filter(({ nodeTaints = [] }) => nodeTaints.length === 0);
    return [...new Set(open.map(({ vmSize = defaultVmSize }) => architectureOf(vmSize)))].sort();
}
