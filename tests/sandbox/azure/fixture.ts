import { noInfrastructure } from "../../../sandbox/azure/mocks";
import { Azure, type AzureOptions, type Properties, type Shown } from "../../../sandbox/azure/model";

/** Ids of built-in roles. */
export const roles = {
    owner: "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
    contributor: "b24988ac-6180-42a0-ab88-20f7382dd24c",
    acrPull: "7f951dda-4ed3-4680-a7ca-43fe172d538d",
    acrPush: "8311e382-0749-4cb8-b61a-304f252e45ec",
    repositoryReader: "b93aa761-3e63-49ed-ac28-beffa264f7ac",
    identityOperator: "f1a07417-d97a-45cb-824c-7a7467783830",
    clusterUser: "4abbcc35-e782-43d8-92c5-2d3f1bd2253f",
    clusterAdmin: "b1ff04bb-8a4e-4dc4-8eb5-8693973ce19b",
};

/** A subscription with the resource group `team`, a clock that only the test moves, and what was asked of the machine. */
export async function newTeam(options: Partial<AzureOptions> = {}) {
    const clock = { now: Date.parse("2026-11-23T12:00:00Z") };
    const slept: number[] = [];
    const azure = new Azure({
        infrastructure: { ...noInfrastructure },
        now: () => clock.now,
        sleep: async (milliseconds) => {
            slept.push(milliseconds);
        },
        ...options,
    });
    const subscription = `/subscriptions/${azure.subscriptionId}`;
    const group = `${subscription}/resourceGroups/team`;
    await azure.put(group, { location: "westeurope" });
    const ids = {
        subscription,
        group,
        registry: `${group}/providers/Microsoft.ContainerRegistry/registries/teamregistry`,
        cluster: `${group}/providers/Microsoft.ContainerService/managedClusters/web`,
        identity: (name: string) =>
            `${group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/${name}`,
    };
    const make = {
        registry: (body: Properties = {}) =>
            azure.put(ids.registry, { location: "westeurope", sku: { name: "Basic" }, ...body }),
        identity: (name: string) => azure.put(ids.identity(name), { location: "westeurope" }),
        grant: (scope: string, principalId: string, role: string, body: Properties = {}, name = nextGuid()) =>
            azure.put(`${scope}/providers/Microsoft.Authorization/roleAssignments/${name}`, {
                principalId,
                principalType: "ServicePrincipal",
                roleDefinitionId: `${subscription}/providers/Microsoft.Authorization/roleDefinitions/${role}`,
                ...body,
            }),
        cluster: (body: Properties = {}) => azure.put(ids.cluster, { ...clusterBody, ...body }),
    };
    return { azure, ids, make, clock, slept };
}

/** The least that AKS takes. */
export const clusterBody = {
    location: "westeurope",
    dnsPrefix: "web",
    identity: { type: "SystemAssigned" },
    agentPoolProfiles: [{ name: "system", mode: "System", count: 2, vmSize: "Standard_D4s_v5" }],
};

/** The body of a cluster that brings the two identities. */
export function bringing(controlPlane: Shown, kubelet: Shown): Properties {
    return {
        identity: { type: "UserAssigned", userAssignedIdentities: [controlPlane.id] },
        identityProfile: {
            kubeletidentity: {
                resourceId: kubelet.id,
                clientId: kubelet.clientId,
                objectId: kubelet.principalId,
            },
        },
    };
}

let guids = 0;

/** A GUID not used before. */
export function nextGuid(): string {
    return `00000000-0000-4000-8000-${String(++guids).padStart(12, "0")}`;
}

/** How a promise, or a function that throws, was refused. */
export async function refusalOf(work: Promise<unknown> | (() => unknown)) {
    try {
        await (typeof work === "function" ? work() : work);
    } catch (error) {
        return error as Error & { status?: number; code?: string; body?: string };
    }
    throw new Error("nothing was refused");
}
