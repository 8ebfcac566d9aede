import { dump, load } from "js-yaml";
import { AzureError, aksError } from "./errors";
import { newIdentity, resourceGroups, userAssignedIdentities } from "./identities";
import { type Azure, guid, kept, notFound, type Properties, type Resource, type ResourceType } from "./model";
import { allowed } from "./roles";

/** Supported minor versions with their latest patch; the older ones with long-term support only ("Supported Kubernetes versions in AKS"). */
const versions: Record<string, string> = { 1.34: "1.34.9", 1.35: "1.35.6", 1.36: "1.36.2", 1.37: "1.37.0" };
const longTermSupportOnly = ["1.30", "1.31", "1.32", "1.33"];
/** AKS's default is the latest patch of the last but one minor version. */
const defaultVersion = "1.36.2";

/** AKS clusters; the pools named in a cluster are resources of their own, as in ARM. */
export const managedClusters: ResourceType = {
    type: "Microsoft.ContainerService/managedClusters",
    name: /^[a-zA-Z0-9]([-_a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$/,
    seconds: { create: 300, update: 60, delete: 360 },
    validate(azure, cluster, previous) {
        const { id, body } = cluster;
        if (previous) {
            checkPower(previous, "updating", "Stopped");
            checkPoolVersions(azure, cluster);
        } else checkDnsPrefix(body.dnsPrefix);
        for (const profile of body.agentPoolProfiles) {
            checkPool(profile, azure.resource(`${id}/agentPools/${profile.name}`));
        }
        versionOf(cluster);
        checkIdentities(azure, cluster);
    },
    async apply(azure, cluster, previous) {
        const { id, name, body, computed } = cluster;
        const before = previous && pullsAs(previous);
        if (!previous) make(azure, cluster);
        computed.currentKubernetesVersion = versionOf(cluster);
        const brought = body.identityProfile?.kubeletidentity;
        if (brought) computed.identityProfile = { kubeletidentity: brought };
        for (const { name: pool, ...profile } of previous === cluster ? [] : body.agentPoolProfiles) {
            const poolId = `${id}/agentPools/${pool}`;
            const older = azure.resource(poolId);
            const version = nodeVersion(profile, cluster, older);
            // A cluster's PUT adds no pool later on.
            if (!previous || older)
                azure.store({ ...kept(poolId, agentPools.type, profile), computed: { version } });
        }
        const clientId = pullsAs(cluster) ?? before ?? "";
        if (previous && previous !== cluster && before === clientId) return;
        const started = await azure.infrastructure.startCluster({ id, name, kubeletClientId: clientId });
        azure.kubeconfigs.set(id.toLowerCase(), started.kubeconfig);
        computed.fqdn = started.fqdn;
    },
    view: clusterView,
    async remove(azure, { id, name, computed }) {
        await azure.infrastructure.stopCluster({ id, name });
        azure.kubeconfigs.delete(id.toLowerCase());
        azure.removePrincipal(computed.principalId);
        if (computed.nodeGroupId && azure.resource(computed.nodeGroupId))
            await azure.delete(computed.nodeGroupId, azure.owner);
    },
};

/** Agent pools of AKS clusters. */
export const agentPools: ResourceType = {
    type: "Microsoft.ContainerService/managedClusters/agentPools",
    name: /^[a-z][a-z0-9]{0,11}$/,
    seconds: { create: 240, update: 60, delete: 240 },
    located: false,
    validate(azure, { id, body }, previous) {
        const cluster = azure.resource(clusterIdOf(id));
        if (!cluster) throw notFound(clusterIdOf(id));
        checkPower(cluster, "updating", "Stopped");
        checkPool(body, previous);
    },
    apply(azure, { id, body, computed }, previous) {
        const cluster = azure.resource(clusterIdOf(id));
        if (cluster) computed.version = nodeVersion(body, cluster, previous);
    },
    view: poolView,
};

/** Throws where the cluster has the power state in which the operation is not allowed; AKS's words for stopping, the others' unconfirmed. */
export function checkPower({ computed }: Resource, operation: string, wrong: "Running" | "Stopped"): void {
    const { code } = computed.powerState ?? running;
    if (code !== wrong) return;
    const message = `managed cluster is in Provisioning State(Succeeded) and Power State(${code}), ${operation} cannot be performed`;
    throw aksError("OperationNotAllowed", message);
}

const running = { code: "Running" };

/**
 * The kubeconfig that AKS gives a user: the cluster's own or, with Microsoft Entra, one that runs kubelogin instead of
 * holding a credential ("Use kubelogin to authenticate users in AKS").
 */
export function userKubeconfig(azure: Azure, { id, body }: Resource): string {
    const { disableLocalAccounts, aadProfile } = body;
    if (disableLocalAccounts && !aadProfile) {
        const message =
            "Getting static credential is not allowed because this cluster is set to disable local accounts. For more details, see https://learn.microsoft.com/en-us/azure/aks/manage-local-accounts-managed-azure-ad";
        throw new AzureError(400, "BadRequest", message);
    }
    const text = azure.kubeconfigs.get(id.toLowerCase()) ?? "";
    if (!aadProfile) return text;
    const config = load(text) as Properties;
    const login = `get-token --environment AzurePublicCloud --server-id 6dae42f8-4368-4678-94ff-3960e28e3630 --client-id 80faf920-1908-4b52-b5ef-a8e7bedfc67a --tenant-id ${azure.tenantId} --login devicecode`;
    const exec = {
        apiVersion: "client.authentication.k8s.io/v1beta1",
        args: login.split(" "),
        command: "kubelogin",
        env: null,
        installHint:
            "\nkubelogin is not installed which is required to connect to AAD enabled cluster.\n\nTo learn more, please go to https://aka.ms/aks/kubelogin\n",
        provideClusterInfo: false,
    };
    const users = config.users.map(({ name }: Properties) => ({ name, user: { exec } }));
    return dump({ ...config, users }, { lineWidth: -1, noRefs: true });
}

function checkDnsPrefix(dnsPrefix = ""): void {
    if (/^[a-zA-Z\d]([-a-zA-Z\d]{0,52}[a-zA-Z\d])?$/.test(dnsPrefix)) return;
    const message = `The value of parameter dnsPrefix is invalid. Error details: DNS prefix '${dnsPrefix}' is invalid. DNS prefix must contain between 1 and 54 characters. Please see https://aka.ms/aks-naming-rules for more details..`;
    throw aksError("InvalidParameter", message, "dnsPrefix");
}

function checkPool({ vmSize }: Properties, previous: Resource | undefined): void {
    if (!previous || !vmSize || vmSize === previous.body.vmSize) return;
    const property = "properties.vmSize";
    throw aksError("PropertyChangeNotAllowed", `Changing property '${property}' is not allowed.`, property);
}

/** The version that a cluster runs after a PUT. */
function versionOf({ name, body, computed: { currentKubernetesVersion: before } }: Resource): string {
    const current: string = before ?? defaultVersion;
    const wanted: string = body.kubernetesVersion ?? current;
    if (isOf(wanted, current)) return current;
    const minor = minorOf(wanted);
    const longTermSupport = body.sku?.tier === "Premium" && body.supportPlan === "AKSLongTermSupport";
    const old = longTermSupportOnly.includes(minor);
    if (versions[minor] || (old && longTermSupport)) {
        if (before) checkUpgrade(before, latest(wanted));
        return latest(wanted);
    }
    const state = old ? "only available for Long-Term Support (LTS)" : "not supported in this region";
    const message = `Managed cluster ${name} is on version ${wanted}${old ? "," : ""} which is ${state}. Please use [az aks get-versions] command to get the supported version list in this region. For more information, see https://aka.ms/supported-version-list`;
    throw aksError("K8sVersionNotSupported", message);
}

/** `1.35` of `1.35.6`, or nothing of what is no version. */
const minorOf = (version: string) => /^(\d+\.\d+)(\.\d+)?$/.exec(version)?.[1] ?? "";
/** Whether a version is the one wanted, or one of the wanted minor version. */
const isOf = (wanted: string, version: string) => `${version}.`.startsWith(`${wanted}.`);
/** A version, of a minor one its latest patch. */
const latest = (wanted: string) =>
    wanted === minorOf(wanted) ? (versions[wanted] ?? `${wanted}.0`) : wanted;

/** AKS goes no version down, and past no minor version up ("Upgrade an AKS cluster"); its words are from public logs. */
function checkUpgrade(from: string, to: string): void {
    const steps = Number(minorOf(to).slice(2)) - Number(minorOf(from).slice(2));
    const isHigher = (version: string) => from.localeCompare(version, "en", { numeric: true }) < 0;
    if (isHigher(to) && steps <= 1) return;
    const next = [minorOf(from), `1.${Number(minorOf(from).slice(2)) + 1}`].map((minor) => versions[minor]);
    const available = next.filter((version) => version && isHigher(version)).join(" ");
    const message = `${isHigher(to) ? "Upgrading" : "Downgrading"} Kubernetes version ${from} to ${to} is not allowed. Available upgrades: [${available}]. Please see https://aka.ms/aks-supported-k8s-ver for version details.`;
    throw aksError("OperationNotAllowed", message);
}

/** The version of a pool's nodes after a PUT: a pool that is told none keeps its own, whatever the control plane's ("Upgrade node pools"). */
function nodeVersion(
    { orchestratorVersion: wanted }: Properties,
    { computed }: Resource,
    pool?: Resource,
): string {
    const current: string = pool?.computed.version ?? computed.currentKubernetesVersion;
    return wanted === undefined || isOf(wanted, current) ? current : latest(wanted);
}

/** A cluster's PUT tells a version to all pools or to none, also of those that it leaves out; AKS's words are from public logs. */
function checkPoolVersions(azure: Azure, { id, body }: Resource): void {
    const told = body.agentPoolProfiles.filter((each: Properties) => each.orchestratorVersion);
    if (told.length === 0 || told.length === azure.resources(agentPools.type, id).length) return;
    const message =
        "Using managed cluster api, all Agent pools' OrchestratorVersion must be all specified or all unspecified. If all specified, they must be stay unchanged or the same with control plane. For agent pool specific change, please use per agent pool operations: https://aka.ms/agent-pool-rest-api";
    throw aksError("NotAllAgentPoolOrchestratorVersionSpecifiedAndUnchanged", message);
}

/** Whether the identities are there, and the control plane's may use the kubelet's ("Use a pre-created kubelet managed identity"). */
function checkIdentities(azure: Azure, { id, body }: Resource): void {
    const attached = controlPlaneIdentities(body);
    const scope: string | undefined = body.identityProfile?.kubeletidentity.resourceId;
    const missing = [...attached, ...(scope ? [scope] : [])].find((each) => !azure.resource(each));
    if (missing) {
        const error = { code: "BadRequest", message: `Resource '${missing}' was not found.` };
        const message = `Identity operation for resource '${id}' failed with error 'Failed to perform resource identity operation. Status: 'BadRequest'. Response: '${JSON.stringify({ error })}'.`;
        throw new AzureError(400, "FailedIdentityOperation", message);
    }
    const action = `${userAssignedIdentities.type}/assign/action`;
    const principals = attached.map((each) => azure.resource(each)?.computed.principalId);
    if (!scope || principals.some((principalId) => allowed(azure, principalId, { action, scope }))) return;
    const message =
        "The cluster using user-assigned managed identity must be granted 'Managed Identity Operator' role to assign kubelet identity. You can run 'az role assignment create --assignee <control-plane-identity-principal-id> --role 'Managed Identity Operator' --scope <kubelet-identity-resource-id>' to grant the permission. See https://learn.microsoft.com/en-us/azure/aks/use-managed-identity#add-role-assignment";
    throw aksError("CustomKubeletIdentityMissingPermissionError", message);
}

/** azure-native takes a list of ids, ARM an object with the ids as keys. */
function controlPlaneIdentities({ identity }: Properties): string[] {
    const ids = identity?.userAssignedIdentities ?? [];
    return Array.isArray(ids) ? ids : Object.keys(ids);
}

/** Client id of the identity that pulls: the kubelet's or, of a cluster without identities, its service principal. */
function pullsAs({ body, computed }: Resource): string | undefined {
    return (computed.identityProfile?.kubeletidentity ?? body.servicePrincipalProfile)?.clientId;
}

/** Makes what AKS makes of its own: the node resource group and, unless brought, the kubelet's identity. */
function make(azure: Azure, { id, name, body, computed }: Resource): void {
    const { location, identity, identityProfile } = body;
    const [, , subscription, , group] = id.split("/");
    const nodeResourceGroup = `MC_${group}_${name}_${location}`.slice(0, 80);
    const nodeGroupId = `/subscriptions/${subscription}/resourceGroups/${nodeResourceGroup}`;
    Object.assign(computed, { nodeResourceGroup, nodeGroupId });
    azure.store(kept(nodeGroupId, resourceGroups.type, { location, managedBy: id }));
    if (identity?.type === "SystemAssigned") Object.assign(computed, newIdentity(azure, name));
    if (!identity || identityProfile?.kubeletidentity) return;
    const made = newIdentity(azure, `${name}-agentpool`);
    const resourceId = `${nodeGroupId}/providers/${userAssignedIdentities.type}/${name}-agentpool`;
    azure.store({ ...kept(resourceId, userAssignedIdentities.type, { location }), computed: made });
    const { clientId, principalId: objectId } = made;
    computed.identityProfile = { kubeletidentity: { resourceId, clientId, objectId } };
}

function clusterView(azure: Azure, { id, body, computed, provisioningState }: Resource): Properties {
    const { principalId, clientId: _, tenantId, nodeGroupId: __, ...shown } = computed;
    const { identity, sku, servicePrincipalProfile, oidcIssuerProfile, aadProfile, ...given } = body;
    const attached = controlPlaneIdentities(body).map((each) => {
        const ids = azure.resource(each)?.computed;
        return [each, { clientId: ids?.clientId, principalId: ids?.principalId }];
    });
    const own = principalId
        ? { principalId, tenantId }
        : { userAssignedIdentities: Object.fromEntries(attached) };
    const issuerURL = `https://${body.location}.oic.prod-aks.azure.com/${azure.tenantId}/${guid(id)}/`;
    return {
        disableLocalAccounts: false,
        enableRBAC: true,
        kubernetesVersion: computed.currentKubernetesVersion,
        supportPlan: "KubernetesOfficial",
        powerState: running,
        ...given,
        ...shown,
        ...(aadProfile && { aadProfile: { tenantID: azure.tenantId, ...aadProfile } }),
        ...(identity && { identity: { type: identity.type, ...own } }),
        servicePrincipalProfile: { clientId: servicePrincipalProfile?.clientId ?? "msi" },
        sku: { name: "Base", tier: "Free", ...sku },
        oidcIssuerProfile: oidcIssuerProfile?.enabled
            ? { ...oidcIssuerProfile, issuerURL }
            : { enabled: false },
        // In the order of AKS's own examples ("Create node pools for a cluster"), whatever order they were made in.
        agentPoolProfiles: azure
            .resources(agentPools.type, id)
            .map((pool) => ({ name: pool.name, ...poolView(azure, pool) }))
            .sort((a, b) => (a.name < b.name ? -1 : 1)),
        provisioningState,
    };
}

function poolView(azure: Azure, { id, body, computed, provisioningState }: Resource): Properties {
    const { version } = computed;
    return {
        ...{ count: 1, mode: "User", osType: "Linux", osSKU: "Ubuntu", type: "VirtualMachineScaleSets" },
        orchestratorVersion: version,
        ...body,
        currentOrchestratorVersion: version,
        powerState: azure.resource(clusterIdOf(id))?.computed.powerState ?? running,
        provisioningState,
    };
}

function clusterIdOf(poolId: string): string {
    return poolId.replace(/\/agentPools\/[^/]*$/i, "");
}
