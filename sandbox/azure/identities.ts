import { randomUUID } from "node:crypto";
import type { Azure, ResourceType } from "./model";

/** Resource groups ("Resource naming restrictions", Microsoft.Resources). */
export const resourceGroups: ResourceType = {
    type: "Microsoft.Resources/resourceGroups",
    action: "Microsoft.Resources/subscriptions/resourcegroups",
    name: /^[-\w.()]{0,89}[-\w()]$/,
    seconds: { create: 2, update: 2, delete: 15 },
    view: (_azure, { body }) => ({ ...body, properties: { provisioningState: "Succeeded" } }),
};

/** User-assigned identities; each is a service principal of the tenant ("Resource naming restrictions", Microsoft.ManagedIdentity). */
export const userAssignedIdentities: ResourceType = {
    type: "Microsoft.ManagedIdentity/userAssignedIdentities",
    name: /^[a-zA-Z0-9][-\w]{2,127}$/,
    seconds: { create: 5, update: 2, delete: 2 },
    apply: (azure, { name, computed }, previous) => {
        if (!previous) Object.assign(computed, newIdentity(azure, name));
    },
    remove: (azure, { computed }) => azure.removePrincipal(computed.principalId),
};

/** A new service principal for a managed identity. */
export function newIdentity(azure: Azure, name: string) {
    const [principalId, clientId] = [randomUUID(), randomUUID()];
    azure.addPrincipal({ objectId: principalId, clientId, name, type: "ServicePrincipal" });
    return { principalId, clientId, tenantId: azure.tenantId };
}
