import { at, azure, notYetKnown, policy, texts } from "./rule";

/** Resources with tags of their own, among those that a stack with clusters and registries is made of. */
const tagged = [
    "resources:ResourceGroup",
    "containerregistry:Registry",
    "containerservice:ManagedCluster",
    "managedidentity:UserAssignedIdentity",
];

/** Tags that a team finds its resources by. */
export const tagPolicies = [
    policy<{ tags: string[] }>({
        name: "required-tags",
        description: "An Azure resource has the tags that the team asks for.",
        level: "mandatory",
        types: azure(...tagged),
        config: { tags: texts("Names of the tags; none are asked for by default.", []) },
        check: ({ inputs }, { tags }) => {
            const found = at(inputs, "tags");
            if (found === notYetKnown) return [];
            // Azure does not tell the names of tags apart by case.
            const present = Object.entries(found ?? {}).filter(([, value]) => value !== "");
            const names = present.map(([name]) => name.toLowerCase());
            const missing = tags.filter((tag) => !names.includes(tag.toLowerCase()));
            return missing.length > 0 ? [`no tag ${missing.join(", ")}; add it to tags`] : [];
        },
    }),
];
