import { unknown, violations } from "./violations";

const cluster = (inputs: object, stack = "prod") => ({
    type: "azure-native:containerservice:ManagedCluster",
    name: "cluster",
    stack,
    inputs,
});

const pool = (inputs: object, stack = "prod") => ({
    type: "azure-native:containerservice:AgentPool",
    name: "cluster-web",
    stack,
    inputs: { agentPoolName: "web", ...inputs },
});

describe("cluster-no-local-accounts", () => {
    const rule = "cluster-no-local-accounts";
    const refused = (found: string) => [
        `ManagedCluster cluster: disableLocalAccounts is ${found}; set aks-acr:cluster.create.localAccounts to false, and aks-acr:cluster.create.adminGroupObjectIds.`,
    ];

    it("refuses a production cluster with local accounts", () => {
        expect(violations(rule, cluster({ disableLocalAccounts: false }))).toEqual(refused("false"));
    });

    it("refuses one that leaves it to AKS, which has them", () => {
        expect(violations(rule, cluster({}))).toEqual(refused("not set"));
    });

    it("takes one without", () => {
        expect(violations(rule, cluster({ disableLocalAccounts: true }))).toEqual([]);
    });

    it("has nothing to say where that is not yet known", () => {
        expect(violations(rule, cluster({ disableLocalAccounts: unknown }))).toEqual([]);
    });
});

describe("cluster-paid-tier", () => {
    const rule = "cluster-paid-tier";
    const refused = (found: string) => [
        `ManagedCluster cluster: sku.tier is ${found}; set aks-acr:cluster.create.tier to Standard or Premium.`,
    ];

    it("refuses a production cluster of the Free tier", () => {
        expect(violations(rule, cluster({ sku: { name: "Base", tier: "Free" } }))).toEqual(refused("Free"));
    });

    it("refuses one that leaves the tier to AKS, which takes Free", () => {
        expect(violations(rule, cluster({}))).toEqual(refused("not set"));
    });

    it.each(["Standard", "Premium"])("takes one of the %s tier", (tier) => {
        expect(violations(rule, cluster({ sku: { tier } }))).toEqual([]);
    });

    it.each([{ sku: unknown }, { sku: { tier: unknown } }])("has nothing to say about %j", (inputs) => {
        expect(violations(rule, cluster(inputs))).toEqual([]);
    });
});

describe("cluster-zones", () => {
    const rule = "cluster-zones";
    const inZones = (...availabilityZones: unknown[]) => ({ availabilityZones });

    it("refuses each pool of a production cluster that is in fewer than two zones", () => {
        const agentPoolProfiles = [{ name: "system" }, { name: "spread", ...inZones("1", "2") }];
        expect(violations(rule, cluster({ agentPoolProfiles }))).toEqual([
            "ManagedCluster cluster: pool system is in 0 availability zones; set aks-acr:cluster.create.systemPool.zones to at least 2 zones.",
        ]);
    });

    it("refuses such an agent pool", () => {
        expect(violations(rule, pool(inZones("1")))).toEqual([
            "AgentPool cluster-web: pool web is in 1 availability zones; set its zones in aks-acr:cluster.create.userPools to at least 2 zones.",
        ]);
    });

    it("takes an agent pool that is in two zones", () => {
        expect(violations(rule, pool(inZones("1", "2")))).toEqual([]);
    });

    it("asks for as many zones as it is configured to", () => {
        expect(violations(rule, pool(inZones("1", "2")), { zones: 3 })).toHaveLength(1);
    });

    it("counts a zone that is not yet known", () => {
        expect(violations(rule, pool(inZones("1", unknown)))).toEqual([]);
    });

    it.each([
        { agentPoolProfiles: unknown },
        { agentPoolProfiles: [unknown] },
        { agentPoolProfiles: [{ name: "system", availabilityZones: unknown }] },
    ])("has nothing to say about %j", (inputs) => {
        expect(violations(rule, cluster(inputs))).toEqual([]);
    });
});

describe.each(["cluster-no-local-accounts", "cluster-paid-tier", "cluster-zones"])("%s", (rule) => {
    const bad = (stack: string) => cluster({ agentPoolProfiles: [{ name: "system" }] }, stack);

    it.each(["dev", "production", "preprod"])("leaves the stack %s alone", (stack) => {
        expect(violations(rule, bad(stack))).toEqual([]);
    });

    it("applies to the stacks that it is configured for", () => {
        const config = { stacks: ["live", "prod-*"] };
        const found = ["live", "prod-eu", "prod"].map((stack) => violations(rule, bad(stack), config).length);
        expect(found).toEqual([1, 1, 0]);
    });
});
