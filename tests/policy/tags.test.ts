import { unknown, violations } from "./violations";

const rule = "required-tags";
const tags = ["owner", "cost-center"];
const group = (inputs: object, type = "azure-native:resources:ResourceGroup") => ({
    type,
    name: "group",
    inputs,
});

describe(rule, () => {
    it("asks for no tags by default", () => {
        expect(violations(rule, group({}))).toEqual([]);
    });

    it("refuses a resource without tags that it is configured to ask for", () => {
        expect(violations(rule, group({}), { tags })).toEqual([
            "ResourceGroup group: no tag owner, cost-center; add it to tags.",
        ]);
    });

    it("refuses an empty tag", () => {
        expect(violations(rule, group({ tags: { owner: "web", "cost-center": "" } }), { tags })).toEqual([
            "ResourceGroup group: no tag cost-center; add it to tags.",
        ]);
    });

    it("takes tags in any case, as Azure does", () => {
        expect(violations(rule, group({ tags: { Owner: "web", "Cost-Center": "7" } }), { tags })).toEqual([]);
    });

    it("takes a tag whose value is not yet known", () => {
        expect(violations(rule, group({ tags: { owner: unknown, "cost-center": "7" } }), { tags })).toEqual(
            [],
        );
    });

    it("has nothing to say while the tags are not yet known", () => {
        expect(violations(rule, group({ tags: unknown }), { tags })).toEqual([]);
    });

    it("leaves resources alone that have no tags", () => {
        const assignment = group({}, "azure-native:authorization:RoleAssignment");
        expect(violations(rule, assignment, { tags })).toEqual([]);
    });
});
