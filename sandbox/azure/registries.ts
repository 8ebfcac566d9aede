import { AzureError } from "./errors";
import { type ResourceType, same } from "./model";

/** Container registries ("Resource naming restrictions", Microsoft.ContainerRegistry). */
export const registries: ResourceType = {
    type: "Microsoft.ContainerRegistry/registries",
    name: /^[a-zA-Z0-9]{5,50}$/,
    seconds: { create: 25, update: 5, delete: 10 },
    validate(azure, { name, body }, previous) {
        const own = azure.resources(registries.type).map((each) => each.name);
        if (!previous && [...azure.settings.namesTaken, ...own].some((each) => same(each, name))) {
            const message = `The registry DNS name ${name.toLowerCase()}.azurecr.io is already in use.`;
            throw new AzureError(409, "AlreadyInUse", message);
        }
        if (body.anonymousPullEnabled && body.sku?.name === "Basic") {
            const more = "For more information on SKU tiers, please visit https://aka.ms/acr/tiers.";
            const message = `Anonymous pull is not supported for SKU Managed_Basic. ${more}`;
            throw new AzureError(400, "BadRequest", message);
        }
    },
    async apply(azure, { id, name, computed }) {
        computed.creationDate ??= new Date(azure.now()).toISOString();
        Object.assign(computed, await azure.infrastructure.startRegistry({ id, name }));
    },
    view: (_azure, { body, computed, provisioningState }) => ({
        adminUserEnabled: false,
        anonymousPullEnabled: false,
        dataEndpointHostNames: [],
        networkRuleBypassOptions: "AzureServices",
        privateEndpointConnections: [],
        publicNetworkAccess: "Enabled",
        zoneRedundancy: "Disabled",
        ...computed,
        ...body,
        sku: { name: body.sku?.name, tier: body.sku?.name },
        provisioningState,
    }),
    remove: (azure, { id, name }) => azure.infrastructure.stopRegistry({ id, name }),
};
