import type { ExistingCluster } from "./components/existing";
import type { Settings } from "./settings";

// What is wrong with a thing that the settings name, said to the person who named it.

/** A thing in Azure that the settings name. */
export interface Reference {
    /** The key that names it. */
    key: string;
    /** What the key is set to. */
    shown: string;
    kind: "registry" | "cluster" | "group";
    subscription: string;
    resourceGroupName: string;
    name: string;
}

const kinds = {
    registry: { noun: "registry", list: "az acr list", create: "registry.create" },
    cluster: { noun: "cluster", list: "az aks list", create: "cluster.create" },
    group: { noun: "resource group", list: "az group list", create: "" },
};

/** The registry or cluster that is to be adopted, or undefined where one is to be created. */
export function referenceOf(
    kind: "registry" | "cluster",
    setting: Settings["registry"] | Settings["cluster"],
    { resourceGroup = "" }: Settings,
    subscription: string,
): Reference | undefined {
    const { id, name } = setting;
    if (id) {
        const { subscription, resourceGroup: resourceGroupName, name } = id;
        return { key: `aks-acr:${kind}.id`, shown: id.id, kind, subscription, resourceGroupName, name };
    }
    if (name === undefined) return undefined;
    const resourceGroupName = setting.resourceGroup ?? resourceGroup;
    return { key: `aks-acr:${kind}.name`, shown: name, kind, subscription, resourceGroupName, name };
}

/**
 * What Azure's refusal of a lookup means, with what to do about it.
 *
 * @param message the provider's, which quotes Azure's code.
 */
export function refusalOf(
    { key, shown, kind, name, resourceGroupName, subscription }: Reference,
    message: string,
    caller: { objectId: string; tenantId: string },
): string {
    const { noun, list, create } = kinds[kind];
    const found = `${key} is "${shown}"`;
    const fix = `\`${list} --subscription ${subscription} --output table\` shows what there is${create ? `; or set aks-acr:${create} to make one` : ", or remove the key to have one made"}`;
    if (/ResourceGroupNotFound/.test(message))
        return `${found}, but there is no resource group ${resourceGroupName} in the subscription ${subscription}; ${fix}`;
    if (/ResourceNotFound|Status=404 Code="NotFound"/.test(message))
        return `${found}, but there is no ${noun} ${name} in the resource group ${resourceGroupName}; ${fix}`;
    if (/InvalidAuthenticationTokenTenant/.test(message)) {
        const other = [...message.matchAll(/sts\.windows\.net\/([\da-f-]{36})/g)].map((match) => match[1]);
        const theirs = other.find((each) => each !== caller.tenantId) ?? "<tenant id>";
        return `${found}, which is in another tenant (${theirs}) than your login (${caller.tenantId}); roles reach no further than a tenant: use a ${noun} of yours, or run \`az login --tenant ${theirs}\``;
    }
    if (/SubscriptionNotFound|InvalidSubscriptionId/.test(message))
        return `${found}, but your login does not see the subscription ${subscription}; \`az account list --output table\` shows those it sees`;
    const action = /perform action '([^']+)'/.exec(message)?.[1];
    if (/AuthorizationFailed/.test(message) && action) {
        const scope = /over scope '([^']+)'/.exec(message)?.[1] ?? "<its id>";
        const role = action.includes("listClusterUserCredential")
            ? "Azure Kubernetes Service Cluster User Role"
            : "Reader";
        return `${found}, but you lack the permission ${action} on it; an Owner can run: az role assignment create --assignee ${caller.objectId} --role "${role}" --scope ${scope}`;
    }
    if (/Getting static credential is not allowed/.test(message))
        return `${found}, which has local accounts disabled but no Microsoft Entra, so nobody can log in; run \`az aks update --name ${name} --resource-group ${resourceGroupName} --enable-aad\``;
    return `${found}, of which Azure says: ${message}`;
}

/** Why a cluster that was found cannot be used. @param given `kubeletPrincipalId` in the settings. */
export function unusable(
    { key, shown, name, resourceGroupName }: Reference,
    cluster: ExistingCluster,
    given: string | undefined,
): string[] {
    const { running, servicePrincipal, kubeletPrincipalId, architectures } = cluster;
    const reasons: string[] = [];
    const there = `--name ${name} --resource-group ${resourceGroupName}`;
    if (!running) reasons.push(`${key} is "${shown}", which is stopped; run \`az aks start ${there}\``);
    if (architectures.length === 0)
        reasons.push(
            `${key} is "${shown}", which has no Linux nodes that take pods; add some with \`az aks nodepool add --cluster-name ${name} --resource-group ${resourceGroupName} --name user\``,
        );
    const keyOfPrincipal = "aks-acr:cluster.kubeletPrincipalId";
    const find = `\`az ad sp show --id ${servicePrincipal} --query id --output tsv\` prints it`;
    if (!given && !kubeletPrincipalId)
        reasons.push(
            `${keyOfPrincipal} is missing: the cluster ${name} has a service principal instead of a kubelet identity; set it to the object id of that, ${find}`,
        );
    if (given && given === servicePrincipal)
        reasons.push(
            `${keyOfPrincipal} is "${given}", which is the service principal's application id; use its object id, ${find}`,
        );
    if (given && kubeletPrincipalId && given !== kubeletPrincipalId)
        reasons.push(
            `${keyOfPrincipal} is "${given}", but the kubelet identity of the cluster ${name} is ${kubeletPrincipalId}; remove the key`,
        );
    return reasons;
}
