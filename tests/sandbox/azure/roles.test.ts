import { AzureError } from "../../../sandbox/azure/errors";
import { newTeam, nextGuid, refusalOf, roles } from "./fixture";

describe("a role assignment", () => {
    test("lets an identity with AcrPull pull from the registry and not push", async () => {
        const { azure, ids, make } = await newTeam();
        await make.registry();
        const { principalId } = await make.identity("kubelet");
        expect(azure.canPull(principalId, ids.registry)).toBe(false);
        await make.grant(ids.registry, principalId, roles.acrPull);
        expect(azure.canPull(principalId, ids.registry)).toBe(true);
        expect(azure.canPush(principalId, ids.registry)).toBe(false);
    });

    test.each(["group", "subscription"] as const)("at the %s holds for the registry in it", async (scope) => {
        const { azure, ids, make } = await newTeam();
        await make.registry();
        const { principalId } = await make.identity("pipeline");
        await make.grant(ids[scope], principalId, roles.acrPush);
        expect(azure.canPush(principalId, ids.registry)).toBe(true);
    });

    test("does not hold for a registry whose id only begins the same", async () => {
        const { azure, ids, make } = await newTeam();
        await make.registry();
        const { principalId } = await make.identity("kubelet");
        await make.grant(ids.registry, principalId, roles.acrPull);
        expect(azure.canPull(principalId, `${ids.registry}2`)).toBe(false);
    });

    test("has an effect only once it has propagated, and at once where the setting is 0", async () => {
        const { azure, ids, make, clock } = await newTeam();
        await make.registry();
        const { principalId } = await make.identity("kubelet");
        azure.configure({ propagationSeconds: 30 });
        await make.grant(ids.registry, principalId, roles.acrPull);
        clock.now += 29_999;
        expect(azure.canPull(principalId, ids.registry)).toBe(false);
        clock.now += 1;
        expect(azure.canPull(principalId, ids.registry)).toBe(true);
    });

    test("stops having an effect when it is deleted", async () => {
        const { azure, ids, make } = await newTeam();
        await make.registry();
        const { principalId } = await make.identity("kubelet");
        const { id } = await make.grant(ids.registry, principalId, roles.acrPull);
        await azure.delete(id);
        expect(azure.canPull(principalId, ids.registry)).toBe(false);
    });

    test("of AcrPull is ignored by a registry in ABAC mode, which heeds Container Registry Repository Reader", async () => {
        const { azure, ids, make } = await newTeam();
        await make.registry({ roleAssignmentMode: "AbacRepositoryPermissions" });
        const { principalId } = await make.identity("kubelet");
        await make.grant(ids.registry, principalId, roles.acrPull);
        await make.grant(ids.registry, principalId, roles.owner);
        expect(azure.canPull(principalId, ids.registry)).toBe(false);
        await make.grant(ids.registry, principalId, roles.repositoryReader);
        expect(azure.canPull(principalId, ids.registry)).toBe(true);
    });

    test("of Repository Reader is ignored by a registry that is not in ABAC mode", async () => {
        const { azure, ids, make } = await newTeam();
        await make.registry();
        const { principalId } = await make.identity("kubelet");
        await make.grant(ids.registry, principalId, roles.repositoryReader);
        expect(azure.canPull(principalId, ids.registry)).toBe(false);
    });

    test("to a client id is accepted for a ServicePrincipal and never lets the identity pull", async () => {
        const { azure, ids, make } = await newTeam();
        await make.registry();
        const { principalId, clientId } = await make.identity("kubelet");
        await make.grant(ids.registry, clientId, roles.acrPull);
        expect(azure.canPull(principalId, ids.registry)).toBe(false);
    });

    test("shows its scope and its principal", async () => {
        const { ids, make } = await newTeam();
        const name = nextGuid();
        const shown = await make.grant(ids.group, nextGuid(), roles.acrPull, {}, name);
        expect(shown).toMatchObject({
            name,
            scope: ids.group,
            principalType: "ServicePrincipal",
            type: "Microsoft.Authorization/roleAssignments",
        });
        expect(shown).not.toHaveProperty("effectiveAt");
    });

    test("may be put again as it is, and keeps its time", async () => {
        const { azure, ids, make, clock } = await newTeam();
        await make.registry();
        azure.configure({ propagationSeconds: 30 });
        const [who, name] = [nextGuid(), nextGuid()];
        await make.grant(ids.registry, who, roles.acrPull, {}, name);
        clock.now += 30_000;
        await make.grant(ids.registry, who, roles.acrPull, { description: "for nginx" }, name);
        expect(azure.canPull(who, ids.registry)).toBe(true);
    });
});

describe("refused is a role assignment", () => {
    test("that gives what another one gives already", async () => {
        const { ids, make } = await newTeam();
        const [who, name] = [nextGuid(), nextGuid()];
        await make.grant(ids.group, who, roles.acrPull, {}, name);
        const refusal = await refusalOf(make.grant(ids.group, who, roles.acrPull));
        expect(refusal).toMatchObject({
            status: 409,
            code: "RoleAssignmentExists",
            message: `The role assignment already exists. The ID of the existing role assignment is ${name.replace(/-/g, "")}.`,
        });
    });

    test.each([
        ["another principal", { principalId: nextGuid() }],
        ["another role", { roleDefinitionId: roles.acrPush }],
    ])("of the same name for %s", async (_, change) => {
        const { ids, make } = await newTeam();
        const name = nextGuid();
        await make.grant(ids.group, nextGuid(), roles.acrPull, {}, name);
        const refusal = await refusalOf(make.grant(ids.group, nextGuid(), roles.acrPull, change, name));
        expect(refusal).toMatchObject({
            status: 400,
            code: "RoleAssignmentUpdateNotPermitted",
            message: "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.",
        });
    });

    test("of the same name at another scope", async () => {
        const { ids, make } = await newTeam();
        const [who, name] = [nextGuid(), nextGuid()];
        await make.grant(ids.group, who, roles.acrPull, {}, name);
        const refusal = await refusalOf(make.grant(ids.subscription, who, roles.acrPull, {}, name));
        expect(refusal.code).toBe("RoleAssignmentUpdateNotPermitted");
    });

    test("to somebody unknown of no given type", async () => {
        const { azure, ids, make } = await newTeam();
        const who = "11111111-2222-4333-8444-555555555555";
        const refusal = await refusalOf(
            make.grant(ids.group, who, roles.acrPull, { principalType: undefined }),
        );
        expect(refusal).toMatchObject({
            status: 400,
            code: "PrincipalNotFound",
            message: `Principal 11111111222243338444555555555555 does not exist in the directory ${azure.tenantId}. Check that you have the correct principal ID. If you are creating this principal and then immediately assigning a role, this error might be related to a replication delay. In this case, set the role assignment principalType property to a value, such as ServicePrincipal, User, or Group.  See https://aka.ms/docs-principaltype`,
        });
    });

    test("to a managed identity that is called a User", async () => {
        const { ids, make } = await newTeam();
        const { principalId } = await make.identity("kubelet");
        const refusal = await refusalOf(
            make.grant(ids.group, principalId, roles.acrPull, { principalType: "User" }),
        );
        expect(refusal).toMatchObject({
            status: 400,
            code: "UnmatchedPrincipalType",
            message: `The PrincipalId '${principalId}' has type 'ServicePrincipal' , which is different from specified PrinciaplType 'User'.`,
        });
    });

    test("to something that is no GUID", async () => {
        const { ids, make } = await newTeam();
        const refusal = await refusalOf(make.grant(ids.group, "me", roles.acrPull));
        expect(refusal).toMatchObject({
            status: 400,
            code: "InvalidPrincipalId",
            message: "The Principal ID 'me' is not valid. Principal ID must be a GUID.",
        });
    });

    test("whose name is no GUID", async () => {
        const { ids, make } = await newTeam();
        const refusal = await refusalOf(make.grant(ids.group, nextGuid(), roles.acrPull, {}, "acr-pull"));
        expect(refusal.code).toBe("InvalidResourceName");
    });

    test("of a role that there is not", async () => {
        const { ids, make } = await newTeam();
        const refusal = await refusalOf(make.grant(ids.group, nextGuid(), nextGuid()));
        expect(refusal.code).toBe("RoleDefinitionDoesNotExist");
    });

    test("on a registry that there is not", async () => {
        const { ids, make } = await newTeam();
        const refusal = await refusalOf(make.grant(ids.registry, nextGuid(), roles.acrPull));
        expect(refusal).toMatchObject({
            status: 404,
            code: "ResourceNotFound",
            message:
                "The Resource 'Microsoft.ContainerRegistry/registries/teamregistry' under resource group 'team' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
        });
    });
});

describe("who may do what", () => {
    test("a Contributor may create a registry, and assign no role on it", async () => {
        const { azure, ids, make } = await newTeam();
        const { objectId } = azure.signIn("contributor@example.com");
        await make.registry();
        const name = nextGuid();
        const refusal = await refusalOf(make.grant(ids.registry, nextGuid(), roles.acrPull, {}, name));
        expect(refusal).toBeInstanceOf(AzureError);
        expect(refusal).toMatchObject({
            status: 403,
            code: "AuthorizationFailed",
            message: `The client 'contributor@example.com' with object id '${objectId}' does not have authorization or an ABAC condition not fulfilled to perform action 'Microsoft.Authorization/roleAssignments/write' over scope '${ids.registry}/providers/Microsoft.Authorization/roleAssignments/${name}' or the scope is invalid. If access was recently granted, please refresh your credentials.`,
        });
        expect(JSON.parse(refusal.body ?? "")).toEqual({
            error: { code: "AuthorizationFailed", message: refusal.message },
        });
    });

    test("a Reader may look and change nothing", async () => {
        const { azure, ids, make } = await newTeam();
        const { objectId } = azure.signIn("reader@example.com");
        expect(azure.get(ids.group).name).toBe("team");
        expect((await refusalOf(make.registry())).message).toBe(
            `The client 'reader@example.com' with object id '${objectId}' does not have authorization to perform action 'Microsoft.ContainerRegistry/registries/write' over scope '${ids.registry}' or the scope is invalid. If access was recently granted, please refresh your credentials.`,
        );
    });

    test("a refusal about a resource group spells its type as Azure does", async () => {
        const { azure, ids } = await newTeam();
        azure.signIn("reader@example.com");
        const refusal = await refusalOf(azure.delete(ids.group));
        expect(refusal.message).toContain(
            `perform action 'Microsoft.Resources/subscriptions/resourcegroups/delete' over scope '${ids.group.replace("resourceGroups", "resourcegroups")}'`,
        );
    });

    test("an administrator of some roles may assign those and no other", async () => {
        const { azure, ids, make } = await newTeam();
        azure.signIn("role-administrator@example.com");
        await make.grant(ids.group, nextGuid(), roles.acrPull);
        const refusal = await refusalOf(make.grant(ids.group, nextGuid(), roles.acrPush));
        expect(refusal.code).toBe("AuthorizationFailed");
    });

    test("an administrator of some roles may take away those and no other", async () => {
        const { azure, ids, make } = await newTeam();
        const mine = await make.grant(ids.group, nextGuid(), roles.acrPull);
        const other = await make.grant(ids.group, nextGuid(), roles.acrPush);
        azure.signIn("role-administrator@example.com");
        await azure.delete(mine.id);
        expect((await refusalOf(azure.delete(other.id))).code).toBe("AuthorizationFailed");
    });

    test("a User Access Administrator may assign any role", async () => {
        const { azure, ids, make } = await newTeam();
        azure.signIn("access-administrator@example.com");
        await expect(make.grant(ids.group, nextGuid(), roles.owner)).resolves.toBeDefined();
    });

    test("the Owner can act behind the back of whoever is signed in", async () => {
        const { azure, ids, make } = await newTeam();
        const { id } = await make.grant(ids.group, nextGuid(), roles.acrPull);
        azure.signIn("reader@example.com");
        await azure.delete(id, azure.owner);
        expect(azure.resource(id)).toBeUndefined();
    });

    test("a pipeline may assign the roles that the program needs and no other", async () => {
        const { azure, ids, make } = await newTeam();
        azure.signIn("deployer");
        await make.registry();
        await make.grant(ids.registry, nextGuid(), roles.acrPull);
        const refusal = await refusalOf(make.grant(ids.registry, nextGuid(), roles.owner));
        expect(refusal.code).toBe("AuthorizationFailed");
    });

    test("a group's roles hold for its members, and for nobody else", async () => {
        const { azure, ids, make } = await newTeam();
        // Where no role that they hold themselves lets them pull.
        await make.registry({ roleAssignmentMode: "AbacRepositoryPermissions" });
        const { objectId, members = [] } = azure.find("platform-admins") ?? { objectId: "" };
        await make.grant(ids.registry, objectId, roles.repositoryReader, { principalType: "Group" });
        expect(members).toEqual([azure.owner.objectId, azure.principal("deployer").objectId]);
        const may = (who: string) => azure.canPull(azure.principal(who).objectId, ids.registry);
        expect({ deployer: may("deployer"), reader: may("reader@example.com") }).toEqual({
            deployer: true,
            reader: false,
        });
    });

    test("a group cannot sign in", async () => {
        const { azure } = await newTeam();
        expect(() => azure.signIn("platform-admins")).toThrow("Nobody in the directory is called");
    });

    test("somebody without any role cannot even look", async () => {
        const { azure, ids } = await newTeam();
        azure.addPrincipal({ objectId: nextGuid(), name: "stranger", type: "User" });
        azure.signIn("stranger");
        expect((await refusalOf(() => azure.get(ids.group))).code).toBe("AuthorizationFailed");
        expect(azure.list()).toEqual([]);
    });

    test("signing in as nobody names who there is", async () => {
        const { azure } = await newTeam();
        expect(() => azure.signIn("root")).toThrow(
            "Nobody in the directory is called root. Use one of owner@example.com, contributor@example.com, reader@example.com, access-administrator@example.com, role-administrator@example.com, deployer.",
        );
    });
});
