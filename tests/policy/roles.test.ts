import { pullRoles } from "../../components/acrPull";
import { managedIdentityOperatorRole } from "../../components/clusterIdentities";
import { unknown, violations } from "./violations";

const rule = "role-assignments-narrow";
const subscription = "/subscriptions/a8fa7fd6-0893-411a-a990-7b5545ccf9c4";
const group = `${subscription}/resourceGroups/team`;
const registry = `${group}/providers/Microsoft.ContainerRegistry/registries/teamimages`;
const definition = (guid: string) =>
    `${subscription}/providers/Microsoft.Authorization/roleDefinitions/${guid}`;
const assignment = (inputs: object) => ({
    type: "azure-native:authorization:RoleAssignment",
    name: "acr-pull",
    inputs: { scope: registry, roleDefinitionId: definition(pullRoles.rbac.id), ...inputs },
});
const owner = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
const instead = "assign AcrPull or Container Registry Repository Reader or Managed Identity Operator";

describe(rule, () => {
    it.each([pullRoles.rbac.id, pullRoles.abac.id, managedIdentityOperatorRole])(
        "takes the role %s, which this program assigns",
        (guid) => {
            expect(violations(rule, assignment({ roleDefinitionId: definition(guid) }))).toEqual([]);
        },
    );

    it.each([
        [owner, "Owner"],
        ["b24988ac-6180-42a0-ab88-20f7382dd24c", "Contributor"],
        ["18D7D88D-D35E-4FB5-A5C3-7773C20A72D9", "User Access Administrator"],
        ["8311e382-0749-4cb8-b61a-304f252e45ec", "AcrPush"],
        ["00000000-1111-4222-8333-444444444444", "00000000-1111-4222-8333-444444444444"],
    ])("refuses the role %s", (guid, role) => {
        expect(violations(rule, assignment({ roleDefinitionId: definition(guid) }))).toEqual([
            `RoleAssignment acr-pull: roleDefinitionId is ${role}; ${instead}, or add it to this rule's roles.`,
        ]);
    });

    it("takes a role that it is configured to, by name or GUID", () => {
        const pushes = assignment({ roleDefinitionId: definition("8311e382-0749-4cb8-b61a-304f252e45ec") });
        expect(violations(rule, pushes, { roles: ["AcrPush"] })).toEqual([]);
        expect(violations(rule, pushes, { roles: ["8311e382-0749-4cb8-b61a-304f252e45ec"] })).toEqual([]);
    });

    it.each([
        ["/", "the tenant"],
        ["/providers/Microsoft.Management/managementGroups/all", "a management group"],
        [subscription, "a subscription"],
        [group.toUpperCase(), "a resource group"],
    ])("refuses the scope %s", (scope, wide) => {
        expect(violations(rule, assignment({ scope }))).toEqual([
            `RoleAssignment acr-pull: scope is ${wide}; assign the role on the one resource that it is for.`,
        ]);
    });

    it("says both of a wide role on a wide scope", () => {
        const both = assignment({ scope: group, roleDefinitionId: definition(owner) });
        expect(violations(rule, both)).toHaveLength(2);
    });

    it("checks the scope while the role is not yet known", () => {
        expect(violations(rule, assignment({ scope: group, roleDefinitionId: unknown }))).toHaveLength(1);
    });

    it("has nothing to say while role and scope are not yet known", () => {
        expect(violations(rule, assignment({ scope: unknown, roleDefinitionId: unknown }))).toEqual([]);
    });
});
