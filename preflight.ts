import { getClientConfig } from "@pulumi/azure-native/authorization/getClientConfig.js";
import { Provider } from "@pulumi/azure-native/provider.js";
import { getResourceGroup } from "@pulumi/azure-native/resources/getResourceGroup.js";
import * as pulumi from "@pulumi/pulumi";
import { architecturesOfNew } from "./components/clusterProperties";
import {
    type ExistingRegistry,
    findCluster,
    findKubeconfig,
    findRegistry,
    type UsableCluster,
} from "./components/existing";
import { UserError } from "./components/userError";
import { imagePlan } from "./imagePlan";
import { type Reference, referenceOf, refusalOf, unusable } from "./refusals";
import { advice, dockerAnswers } from "./requirements.cjs";
import { configOf, refuse, type Settings } from "./settings";

// Everything that the cloud and this machine must have, looked up side by side, each thing once, before anything is touched.

/** Who is signed in to Azure. */
type Caller = Awaited<ReturnType<typeof getClientConfig>>;

/** Settings, with what is there already filled in: what the components are told. */
export type Plan = Awaited<ReturnType<typeof preflight>>;

/**
 * Looks up what the settings name, and checks that it fits together.
 *
 * @throws UserError that lists every problem at once, each with its key, what was found and what to do.
 */
export async function preflight(settings: Settings) {
    const caller = await getClientConfig().catch((error: Error) => {
        throw new UserError(`${advice.azure}\n  Azure's provider says: ${error.message}`);
    });
    const problems: string[] = [];
    const look = new Lookups(settings, caller, problems);
    const [registry, cluster, extraPullFrom] = await Promise.all([
        look.registry(referenceOf("registry", settings.registry, settings, caller.subscriptionId)),
        look.cluster(referenceOf("cluster", settings.cluster, settings, caller.subscriptionId)),
        Promise.all(
            settings.extraPullFrom.map(({ id, permissions }, index) => look.extra(id, permissions, index)),
        ),
        look.resourceGroup(),
        look.docker(),
    ]);
    const created = settings.cluster.create;
    const nodes = created ? architecturesOfNew(created) : (cluster?.architectures ?? []);
    const image = await imagePlan(settings.image, { registry, nodes, caller, problems });
    // In the same order every time, whatever answered first.
    refuse(problems.sort());

    const { roleAssignments, workload } = settings;
    const tags = Object.keys(settings.tags).length > 0 ? settings.tags : undefined;
    const permissions = settings.registry.permissions ?? "rbac";
    const adopts = !settings.registry.create && !created;
    return {
        /** The group to put things into; undefined where one is to be created. */
        resourceGroup: settings.resourceGroup ?? (adopts ? cluster?.resourceGroupName : undefined),
        clusterName: created?.name ?? cluster?.clusterName ?? "",
        protect: settings.protect,
        tags,
        registry: registry ? { existing: registry } : { ...settings.registry.create, tags },
        cluster: created
            ? { ...created, tags, login: settings.cluster.login, ownIdentities: roleAssignments === "create" }
            : { existing: cluster as UsableCluster },
        pull: { permissions, roleAssignments },
        extraPullFrom: extraPullFrom.flatMap((each) => each ?? []),
        image: { ...image.args, permissions },
        promoted: image.promoted,
        workload: {
            ...workload,
            architecture: image.architecture,
            // Who waits for somebody else's command waits in vain for pods that need it.
            waitSeconds: workload.waitSeconds ?? (roleAssignments === "external" ? 0 : undefined),
        },
    };
}

class Lookups {
    private readonly providers = new Map<string, Provider>();

    constructor(
        private readonly settings: Settings,
        private readonly caller: Caller,
        private readonly problems: string[],
    ) {}

    async registry(reference: Reference | undefined): Promise<ExistingRegistry | undefined> {
        if (!reference) return undefined;
        const args = { resourceGroupName: reference.resourceGroupName, registryName: reference.name };
        return await this.attempt(reference, () => findRegistry(args, this.in(reference.subscription)));
    }

    async extra(id: Settings["extraPullFrom"][number]["id"], permissions: "rbac" | "abac", index: number) {
        const reference = {
            ...id,
            key: `aks-acr:extraPullFrom[${index}]`,
            shown: id.id,
            kind: "registry",
        } as const;
        const found = await this.registry({ ...reference, resourceGroupName: id.resourceGroup });
        return found && { ...found, permissions };
    }

    async cluster(reference: Reference | undefined) {
        if (!reference) return undefined;
        const { login = "azurecli", kubeletPrincipalId: given } = this.settings.cluster;
        const args = { resourceGroupName: reference.resourceGroupName, resourceName: reference.name };
        const options = this.in(reference.subscription);
        const found = await this.attempt(reference, () => findCluster(args, options));
        if (!found) return undefined;
        const reasons = unusable(reference, found, given);
        this.problems.push(...reasons);
        const kubeconfig = found.running
            ? await this.attempt(reference, () => findKubeconfig(args, login, options))
            : undefined;
        return { ...found, kubeletPrincipalId: given ?? found.kubeletPrincipalId, kubeconfig };
    }

    /** The group that something is to be created in, where it is the team's own. */
    async resourceGroup(): Promise<void> {
        const { resourceGroup: name, registry, cluster } = this.settings;
        if (name === undefined || !(registry.create || cluster.create)) return;
        const reference: Reference = {
            ...{ key: "aks-acr:resourceGroup", shown: name, kind: "group", name, resourceGroupName: name },
            subscription: this.caller.subscriptionId,
        };
        await this.attempt(reference, () => getResourceGroup({ resourceGroupName: name }));
    }

    async docker(): Promise<void> {
        if (this.settings.image.ref !== undefined) return;
        const host = configOf("docker").host ?? process.env.DOCKER_HOST;
        if (!(await dockerAnswers(host as string | undefined))) this.problems.push(advice.docker);
    }

    /** Options of lookups in a subscription; another than the configured one takes a provider of its own. */
    private in(subscriptionId: string): pulumi.InvokeOptions {
        if (subscriptionId.toLowerCase() === this.caller.subscriptionId.toLowerCase()) return {};
        const known = this.providers.get(subscriptionId.toLowerCase());
        const config = Object.entries(configOf("azure-native")).map(([key, value]) => [
            key,
            pulumi.secret(value),
        ]);
        const provider =
            known ??
            new Provider(`subscription-${subscriptionId}`, { ...Object.fromEntries(config), subscriptionId });
        this.providers.set(subscriptionId.toLowerCase(), provider);
        return { provider };
    }

    private async attempt<T>(reference: Reference, lookup: () => Promise<T>): Promise<T | undefined> {
        try {
            return await lookup();
        } catch (error) {
            this.problems.push(refusalOf(reference, (error as Error).message, this.caller));
            return undefined;
        }
    }
}
