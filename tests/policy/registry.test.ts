import { unknown, violations } from "./violations";

const registry = (inputs: object, type = "azure-native:containerregistry:Registry") => ({
    type,
    name: "registry",
    inputs: { sku: { name: "Basic" }, ...inputs },
});

describe.each([
    ["registry-no-admin-user", "adminUserEnabled"],
    ["registry-no-anonymous-pull", "anonymousPullEnabled"],
])("%s", (rule, input) => {
    it("refuses a registry that has it on", () => {
        expect(violations(rule, registry({ [input]: true }))).toEqual([
            `Registry registry: ${input} is true; set it to false and assign a role such as AcrPull to who pulls.`,
        ]);
    });

    it("refuses it in every API version", () => {
        const versioned = "azure-native_containerregistry_v20250401:containerregistry:Registry";
        expect(violations(rule, registry({ [input]: true }, versioned))).toHaveLength(1);
    });

    it("takes a registry that has it off", () => {
        expect(violations(rule, registry({ [input]: false }))).toEqual([]);
    });

    it("takes a registry that leaves it to Azure, which has it off", () => {
        expect(violations(rule, registry({}))).toEqual([]);
    });

    it("has nothing to say where that is not yet known", () => {
        expect(violations(rule, registry({ [input]: unknown }))).toEqual([]);
    });

    it("is about nothing but registries", () => {
        const webhook = "azure-native:containerregistry:Webhook";
        expect(violations(rule, registry({ [input]: true }, webhook))).toEqual([]);
    });
});
