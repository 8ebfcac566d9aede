import * as fc from "fast-check";
import { AcrPull, assignmentName, roleDefinition, uuidV5 } from "../../components/acrPull";
import { inputsOf, mockedStack, resolved, settled, withGroup } from "./stack";

const assignmentType = "azure-native:authorization:RoleAssignment";
const principalId = "5b0d4a5e-1111-4222-8333-944445555666";

async function registryId(
    mocks: Awaited<ReturnType<typeof mockedStack>>,
    body: Record<string, string> = {},
): Promise<string> {
    const group = await withGroup(mocks);
    const { subscriptionId } = mocks.azure;
    const id = `/subscriptions/${subscriptionId}/resourceGroups/${group}/providers/Microsoft.ContainerRegistry/registries/teamimages`;
    await mocks.azure.put(id, { location: "westeurope", sku: { name: "Basic" }, ...body });
    return id;
}

describe("AcrPull", () => {
    it("needs nothing but two strings", async () => {
        const mocks = await mockedStack();
        const id = await registryId(mocks);
        const acrPull = new AcrPull("pull", { registryId: id, principalId });
        const roleDefinitionId = `/subscriptions/${mocks.azure.subscriptionId}/providers/Microsoft.Authorization/roleDefinitions/7f951dda-4ed3-4680-a7ca-43fe172d538d`;
        expect(await resolved(acrPull.access)).toEqual({
            principalId,
            scope: id,
            roleDefinitionId,
            state: "assigned",
        });
        await settled();
        expect(inputsOf(mocks, assignmentType)).toEqual({
            scope: id,
            principalId,
            principalType: "ServicePrincipal",
            roleDefinitionId,
            roleAssignmentName: await resolved(
                assignmentName(id, principalId, "7f951dda-4ed3-4680-a7ca-43fe172d538d"),
            ),
        });
    });

    it("takes the role that a registry in ABAC mode heeds", async () => {
        const mocks = await mockedStack();
        const id = await registryId(mocks, { roleAssignmentMode: "AbacRepositoryPermissions" });
        await resolved(
            new AcrPull("pull", { registryId: id, principalId, permissions: "abac" }).roleAssignmentId,
        );
        expect(inputsOf(mocks, assignmentType).roleDefinitionId).toMatch(
            /\/b93aa761-3e63-49ed-ac28-beffa264f7ac$/,
        );
        expect(mocks.azure.canPull(principalId, id)).toBe(true);
    });

    it("leaves the assignment to somebody else, with the command for it", async () => {
        const mocks = await mockedStack();
        const id = await registryId(mocks);
        const acrPull = new AcrPull("pull", { registryId: id, principalId, roleAssignments: "external" });
        expect(await resolved(acrPull.access)).toEqual({
            principalId,
            scope: id,
            roleDefinitionId: roleDefinition(id, "7f951dda-4ed3-4680-a7ca-43fe172d538d"),
            state: "external",
            command:
                `az role assignment create --assignee-object-id ${principalId} --assignee-principal-type ServicePrincipal ` +
                `--role "AcrPull" --scope ${id}`,
        });
        expect(await resolved(acrPull.roleAssignmentId)).toBeUndefined();
        expect(mocks.of(assignmentType)).toEqual([]);
    });

    it("lets the principal pull, and not push", async () => {
        const mocks = await mockedStack();
        const id = await registryId(mocks);
        await resolved(new AcrPull("pull", { registryId: id, principalId }).roleAssignmentId);
        expect(mocks.azure.canPull(principalId, id)).toBe(true);
        expect(mocks.azure.canPush(principalId, id)).toBe(false);
    });
});

describe("the name of a role assignment", () => {
    it("follows RFC 9562, version 5", () => {
        // The value that Python's uuid.uuid5(uuid.NAMESPACE_URL, ...) gives.
        expect(uuidV5("https://www.example.com/")).toBe("3d3ed9d2-aa3d-5fa6-90e8-ed662e90f559");
    });

    it("is the same for ids that differ in case only, as Azure's do", async () => {
        const upper = await resolved(assignmentName("/subscriptions/A/x", "ABC", "role"));
        expect(upper).toBe(await resolved(assignmentName("/subscriptions/a/X", "abc", "role")));
    });

    it("is a version 5 UUID for any text", () => {
        fc.assert(
            fc.property(fc.string(), (text) => {
                expect(uuidV5(text)).toMatch(
                    /^[\da-f]{8}-[\da-f]{4}-5[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/,
                );
            }),
        );
    });
});

describe("a role definition's id", () => {
    it("is in the subscription of the scope", () => {
        expect(roleDefinition("/subscriptions/s1/resourceGroups/g/providers/X/y/z", "r")).toBe(
            "/subscriptions/s1/providers/Microsoft.Authorization/roleDefinitions/r",
        );
    });
});
