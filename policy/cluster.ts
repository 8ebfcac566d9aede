import { at, azure, type Declared, isNone, listAt, matches, notYetKnown, policy, show, texts } from "./rule";

/** Where a rule applies. */
interface Production {
    stacks: string[];
}

const stacks = texts("Stacks that are production, by name; * stands for any characters.", ["prod"]);
const key = "aks-acr:cluster.create";

function inProduction<Config extends Production>(check: (resource: Declared, config: Config) => string[]) {
    return (resource: Declared, config: Config) =>
        config.stacks.some((pattern) => matches(pattern, resource.stack)) ? check(resource, config) : [];
}

/** What an AKS cluster must be in production. */
export const clusterPolicies = [
    policy<Production>({
        name: "cluster-no-local-accounts",
        description: "A production cluster lets nobody in without Microsoft Entra.",
        level: "mandatory",
        types: azure("containerservice:ManagedCluster"),
        config: { stacks },
        check: inProduction(({ inputs }) => {
            const disabled = at(inputs, "disableLocalAccounts");
            const fix = `set ${key}.localAccounts to false, and ${key}.adminGroupObjectIds`;
            return isNone(disabled, true) ? [`disableLocalAccounts is ${show(disabled)}; ${fix}`] : [];
        }),
    }),
    policy<Production>({
        name: "cluster-paid-tier",
        description: "A production cluster's API server has an SLA.",
        level: "mandatory",
        types: azure("containerservice:ManagedCluster"),
        config: { stacks },
        check: inProduction(({ inputs }) => {
            const tier = at(inputs, "sku", "tier");
            const fix = `set ${key}.tier to Standard or Premium`;
            return isNone(tier, "Standard", "Premium") ? [`sku.tier is ${show(tier)}; ${fix}`] : [];
        }),
    }),
    policy<Production & { zones: number }>({
        name: "cluster-zones",
        description: "A production cluster's pools outlive the loss of an availability zone.",
        level: "mandatory",
        types: azure("containerservice:ManagedCluster", "containerservice:AgentPool"),
        config: {
            stacks,
            zones: { type: "integer", minimum: 1, description: "Fewest zones of a pool.", default: 2 },
        },
        check: inProduction(({ type, inputs }, { zones }) => [
            ...listAt(inputs, "agentPoolProfiles").flatMap((pool) =>
                withoutZones(pool, at(pool, "name"), `${key}.systemPool.zones`, zones),
            ),
            ...(type.endsWith(":AgentPool")
                ? withoutZones(inputs, at(inputs, "agentPoolName"), `its zones in ${key}.userPools`, zones)
                : []),
        ]),
    }),
];

function withoutZones(pool: unknown, name: unknown, where: string, least: number): string[] {
    const zones = at(pool, "availabilityZones");
    const count = Array.isArray(zones) ? zones.length : 0;
    if (zones === notYetKnown || count >= least) return [];
    return [`pool ${show(name)} is in ${count} availability zones; set ${where} to at least ${least} zones`];
}
