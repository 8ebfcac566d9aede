import { at, azure, policy, texts } from "./rule";

/** Roles with a name here, by the GUID at the end of their ids ("Azure built-in roles"). */
const builtIn: Record<string, string> = {
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635": "Owner",
    "b24988ac-6180-42a0-ab88-20f7382dd24c": "Contributor",
    "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9": "User Access Administrator",
    "7f951dda-4ed3-4680-a7ca-43fe172d538d": "AcrPull",
    "8311e382-0749-4cb8-b61a-304f252e45ec": "AcrPush",
    "b93aa761-3e63-49ed-ac28-beffa264f7ac": "Container Registry Repository Reader",
    "f1a07417-d97a-45cb-824c-7a7467783830": "Managed Identity Operator",
};

const nameOrGuid = `^(${Object.values(builtIn).join("|")}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`;

/** Scopes of more than one resource, by what their ids look like ("Understand scope for Azure RBAC"). */
const wideScopes: [id: RegExp, name: string][] = [
    [/^\/$/, "the tenant"],
    [/^\/providers\/Microsoft\.Management\/managementGroups\/[^/]+\/?$/i, "a management group"],
    [/^\/subscriptions\/[^/]+\/?$/i, "a subscription"],
    [/^\/subscriptions\/[^/]+\/resourceGroups\/[^/]+\/?$/i, "a resource group"],
];

/** Role assignments that let do no more than is needed. */
export const rolePolicies = [
    policy<{ roles: string[] }>({
        name: "role-assignments-narrow",
        description: "A role assignment gives a role that is needed, on one resource.",
        level: "mandatory",
        types: azure("authorization:RoleAssignment"),
        config: {
            roles: texts(
                `Roles that are needed: any by its GUID, or ${Object.values(builtIn).join(", ")}.`,
                ["AcrPull", "Container Registry Repository Reader", "Managed Identity Operator"],
                nameOrGuid,
            ),
        },
        check: ({ inputs }, { roles }) => {
            const problems: string[] = [];
            const role = at(inputs, "roleDefinitionId");
            const guid = typeof role === "string" ? (role.split("/").at(-1) ?? "").toLowerCase() : undefined;
            const name = guid && (builtIn[guid] ?? guid);
            if (name && !roles.includes(name) && !roles.includes(guid)) {
                const fix = `assign ${roles.join(" or ")}, or add it to this rule's roles`;
                problems.push(`roleDefinitionId is ${name}; ${fix}`);
            }
            const scope = at(inputs, "scope");
            const wide = wideScopes.find(([id]) => typeof scope === "string" && id.test(scope))?.[1];
            if (wide) problems.push(`scope is ${wide}; assign the role on the one resource that it is for`);
            return problems;
        },
    }),
];
