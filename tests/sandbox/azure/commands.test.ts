import { managedClusters } from "../../../sandbox/azure/clusters";
import { runAzureCommand } from "../../../sandbox/azure/commands";
import { newTeam, refusalOf, roles } from "./fixture";

/** A team, and ways to run commands as they are typed: words with spaces in them are in quotes. */
async function atTheCommandLine() {
    const team = await newTeam();
    const type = (line: string) =>
        runAzureCommand(
            team.azure,
            [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? ""),
        );
    const run = async (line: string) => JSON.parse(await type(line));
    return { ...team, type, run };
}

const guidPattern = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/;

describe("a line that is no command", () => {
    test("gets all commands, where its first word begins none", async () => {
        const { type } = await atTheCommandLine();
        const { message } = await refusalOf(type("make coffee"));
        expect(message).toContain("\n    aks stop --name <name> --resource-group <group>");
        expect(message).toContain("\n    logout\n");
    });

    test("gets the commands that begin with the same word", async () => {
        const { type } = await atTheCommandLine();
        const { message } = await refusalOf(type("ad user create"));
        expect(message.split("\n").slice(1)).toEqual([
            "    ad user list",
            "    ad group list",
            "    ad sp list",
            "    ad sp show --id <application or object id>",
            "    ad sp create-for-rbac --name <name>",
        ]);
    });

    test.each([
        ["aks stop --name web", "--resource-group is missing:"],
        ["account list --name web", "Unknown option '--name'"],
        ["account list all", "all does not fit here:"],
        ["account list --colour red", "Unknown option '--colour'"],
    ])("because of its options says which: %s", async (line, problem) => {
        const { type } = await atTheCommandLine();
        const { message } = await refusalOf(type(line));
        expect(message.startsWith(problem)).toBe(true);
        expect(message.split("\n").at(-1)).toContain(line.split(" ").slice(0, 2).join(" "));
    });
});

describe("signing in", () => {
    test("makes requests come from somebody, and without a name from the Owner", async () => {
        const { azure, run } = await atTheCommandLine();
        await run("login --username deployer");
        expect(azure.caller.name).toBe("deployer");
        await run("login");
        expect(azure.caller).toEqual(azure.owner);
    });

    test("out leaves nobody, and the commands work on", async () => {
        const { azure, type, run } = await atTheCommandLine();
        expect(await type("logout")).toBe("Nobody is signed in now.");
        expect(() => azure.caller).toThrow("ERROR: Please run 'az login' to setup account.");
        expect(await run("group create -n other -l westeurope")).toMatchObject({ name: "other" });
    });
});

describe("the directory", () => {
    test("lists the subscriptions, another tenant's too", async () => {
        const { azure, run } = await atTheCommandLine();
        const [first, second, elsewhere] = await run("account list");
        expect(first).toEqual({
            id: azure.subscriptionId,
            name: "first",
            tenantId: azure.tenantId,
            isDefault: true,
        });
        expect(second).toMatchObject({ name: "second", tenantId: azure.tenantId, isDefault: false });
        expect(elsewhere.tenantId).not.toBe(azure.tenantId);
    });

    test("lists people, groups and service principals apart", async () => {
        const { azure, run } = await atTheCommandLine();
        const deployer = azure.principal("deployer");
        expect(await run("ad user list")).toContainEqual({
            userPrincipalName: "owner@example.com",
            id: azure.owner.objectId,
        });
        expect(await run("ad group list")).toEqual([
            {
                displayName: "platform-admins",
                id: azure.find("platform-admins")?.objectId,
                members: [azure.owner.objectId, deployer.objectId],
            },
        ]);
        expect(await run("ad sp list")).toEqual([
            { appId: deployer.clientId, displayName: "deployer", id: deployer.objectId },
        ]);
    });

    test("makes a service principal once, and shows no password", async () => {
        const { azure, run } = await atTheCommandLine();
        const made = await run("ad sp create-for-rbac --name ci");
        expect(made).toEqual({
            appId: expect.stringMatching(guidPattern),
            displayName: "ci",
            id: expect.stringMatching(guidPattern),
            tenant: azure.tenantId,
        });
        expect(await run("ad sp create-for-rbac --name ci")).toEqual(made);
    });

    test("finds a service principal's object id by its application id, as a plain text", async () => {
        const { azure, type } = await atTheCommandLine();
        const { clientId, objectId } = azure.principal("deployer");
        expect(await type(`ad sp show --id ${clientId} --query id --output tsv`)).toBe(objectId);
    });
});

describe("role assignment create", () => {
    const withRegistry = async () => {
        const line = await atTheCommandLine();
        await line.make.registry();
        const { principalId } = await line.make.identity("kubelet");
        const words = `--assignee-object-id ${principalId} --assignee-principal-type ServicePrincipal --role AcrPull --scope ${line.ids.registry}`;
        return { ...line, principalId, words };
    };

    test("lets the identity with the object id pull, under a random name", async () => {
        const { azure, ids, run, principalId, words } = await withRegistry();
        const { name } = await run(`role assignment create ${words}`);
        expect(name).toMatch(guidPattern);
        expect(azure.canPull(principalId, ids.registry)).toBe(true);
    });

    test("a second time answers with the existing one, and a GUID names the role, too", async () => {
        const { run, words } = await withRegistry();
        const first = await run(`role assignment create ${words}`);
        expect(await run(`role assignment create ${words.replace("AcrPull", roles.acrPull)}`)).toEqual(first);
    });

    test("takes a role's name of several words", async () => {
        const { ids, run, words } = await withRegistry();
        const role = '"Container Registry Repository Reader"';
        const { roleDefinitionId } = await run(`role assignment create ${words.replace("AcrPull", role)}`);
        expect(roleDefinitionId).toBe(
            `${ids.subscription}/providers/Microsoft.Authorization/roleDefinitions/${roles.repositoryReader}`,
        );
    });

    test("looks an assignee up by name", async () => {
        const { azure, ids, run } = await withRegistry();
        const line = `role assignment create --assignee platform-admins --role AcrPull --scope ${ids.registry}`;
        expect(await run(line)).toMatchObject({
            principalId: azure.find("platform-admins")?.objectId,
            principalType: "Group",
        });
    });

    test.each([
        ["--assignee nobody", "Cannot find user or service principal in graph database for 'nobody'."],
        ["", "--assignee or --assignee-object-id is missing."],
        ["--assignee owner@example.com --role Cook", "There is no role Cook; use one of Owner, Contributor,"],
    ])("with %j is refused", async (words, problem) => {
        const { ids, type } = await withRegistry();
        const line = `role assignment create --role AcrPull --scope ${ids.registry} ${words}`;
        expect((await refusalOf(type(line))).message).toContain(problem);
    });

    test("is undone by delete with the same words, which leaves grants above alone", async () => {
        const { azure, ids, make, run, type, principalId, words } = await withRegistry();
        const above = await make.grant(ids.group, principalId, roles.acrPull);
        const { id } = await run(`role assignment create ${words}`);
        expect(await type(`role assignment delete ${words}`)).toBe(`deleted ${id}`);
        expect(azure.resource(above.id)).toBeDefined();
        expect((await refusalOf(type(`role assignment delete ${words}`))).message).toBe(
            "There is no such role assignment; `role assignment list` shows all.",
        );
    });
});

describe("a resource group", () => {
    test("is made and deleted in the subscription with the name", async () => {
        const { azure, run, type } = await atTheCommandLine();
        const { id, location } = await run("group create --name far --location eastus --subscription second");
        expect(id).toBe(`/subscriptions/${azure.subscriptions[1]?.id}/resourceGroups/far`);
        expect(location).toBe("eastus");
        expect(await run("group list --subscription second")).toHaveLength(1);
        expect(await type("group delete --name far --subscription second --yes")).toBe(`deleted ${id}`);
        expect(azure.resource(id)).toBeUndefined();
    });
});

describe("a registry", () => {
    test("is made where its group is, in ABAC mode and with a domain name label", async () => {
        const { run } = await atTheCommandLine();
        const made = await run(
            "acr create -n teamregistry -g team --sku Standard --role-assignment-mode rbac-abac --dnl-scope TenantReuse",
        );
        expect(made).toMatchObject({
            location: "westeurope",
            sku: { name: "Standard" },
            roleAssignmentMode: "AbacRepositoryPermissions",
            autoGeneratedDomainNameLabelScope: "TenantReuse",
            loginServer: "teamregistry.azurecr.io",
        });
        expect(await run("acr show --name teamregistry")).toEqual(made);
    });

    test("is changed in what the update names, and found without its group", async () => {
        const { run } = await atTheCommandLine();
        await run("acr create --name teamregistry --resource-group team --role-assignment-mode rbac-abac");
        expect(await run("acr update --name teamregistry --admin-enabled true")).toMatchObject({
            adminUserEnabled: true,
            roleAssignmentMode: "AbacRepositoryPermissions",
        });
        expect(await run("acr update -n teamregistry --role-assignment-mode rbac")).toMatchObject({
            adminUserEnabled: true,
            roleAssignmentMode: "LegacyRegistryPermissions",
        });
    });

    test("is deleted", async () => {
        const { azure, ids, run, type } = await atTheCommandLine();
        await run("acr create --name teamregistry --resource-group team");
        await type("acr delete --name teamregistry --yes");
        expect(azure.resource(ids.registry)).toBeUndefined();
        expect((await refusalOf(type("acr show --name teamregistry"))).message).toBe(
            "There is no Microsoft.ContainerRegistry/registries called teamregistry there; `resource list` shows all.",
        );
    });

    test("in another mode than there are is refused", async () => {
        const { type } = await atTheCommandLine();
        const refusal = await refusalOf(
            type("acr create -n teamregistry -g team --role-assignment-mode abac"),
        );
        expect(refusal.message).toBe("--role-assignment-mode is abac; use rbac or rbac-abac.");
    });
});

describe("a cluster", () => {
    test("is made with the Azure CLI's defaults, and deleted", async () => {
        const { azure, ids, run, type } = await atTheCommandLine();
        const made = await run("aks create --name web --resource-group team");
        expect(made).toMatchObject({
            id: ids.cluster,
            location: "westeurope",
            dnsPrefix: `web-team-${azure.subscriptionId.slice(0, 6)}`,
            identity: { type: "SystemAssigned" },
            disableLocalAccounts: false,
            agentPoolProfiles: [{ name: "nodepool1", mode: "System", count: 3, vmSize: "Standard_D4s_v5" }],
        });
        expect(made).not.toHaveProperty("aadProfile");
        expect(await run("aks show -n web -g team")).toEqual(made);
        await type("aks delete -n web -g team --yes");
        expect(azure.resources(managedClusters.type)).toEqual([]);
    });

    test("is made with what the options say", async () => {
        const { azure, run } = await atTheCommandLine();
        const group = azure.find("platform-admins")?.objectId;
        const made = await run(
            `aks create -n web -g team --node-vm-size Standard_D4ps_v6 --node-count 1 --enable-aad --aad-admin-group-object-ids ${group} --enable-azure-rbac --disable-local-accounts --location northeurope`,
        );
        expect(made).toMatchObject({
            location: "northeurope",
            disableLocalAccounts: true,
            aadProfile: { managed: true, enableAzureRBAC: true, adminGroupObjectIDs: [group] },
            agentPoolProfiles: [{ count: 1, vmSize: "Standard_D4ps_v6" }],
        });
    });

    test("gets Microsoft Entra by an update", async () => {
        const { run } = await atTheCommandLine();
        await run("aks create -n web -g team");
        expect(await run("aks update -n web -g team --enable-aad")).toMatchObject({
            aadProfile: { managed: true, enableAzureRBAC: false },
        });
    });

    test("that a registry is attached to may pull from it, whichever way it is attached", async () => {
        const { azure, ids, make, run } = await atTheCommandLine();
        await make.registry();
        const { objectId } = (await run("aks create -n web -g team --attach-acr teamregistry"))
            .identityProfile.kubeletidentity;
        expect(azure.canPull(objectId, ids.registry)).toBe(true);
        await run(`aks update -n web -g team --attach-acr ${ids.registry}`);
        expect(await run(`role assignment list --scope ${ids.registry}`)).toMatchObject([
            { principalId: objectId, name: expect.stringMatching(guidPattern) },
        ]);
    });

    test("with a service principal pulls as that", async () => {
        const { azure, ids, make, run } = await atTheCommandLine();
        await make.registry();
        const { appId, id } = await run("ad sp create-for-rbac --name nodes");
        const made = await run(
            `aks create -n web -g team --service-principal ${appId} --attach-acr teamregistry`,
        );
        expect(made.servicePrincipalProfile).toEqual({ clientId: appId });
        expect(made).not.toHaveProperty("identityProfile");
        expect(azure.canPull(id, ids.registry)).toBe(true);
    });

    test("is not made where the registry to attach is missing", async () => {
        const { azure, ids, type } = await atTheCommandLine();
        await refusalOf(type("aks create -n web -g team --attach-acr teamregistry"));
        expect(azure.resource(ids.cluster)).toBeUndefined();
    });

    test("is stopped and started", async () => {
        const { run } = await atTheCommandLine();
        await run("aks create -n web -g team");
        expect(await run("aks stop -n web -g team")).toMatchObject({ powerState: { code: "Stopped" } });
        expect(await run("aks start -n web -g team")).toMatchObject({ powerState: { code: "Running" } });
    });

    test("is scaled as by hand or by its autoscaler: one pool, its other properties as they were", async () => {
        const { run, type } = await atTheCommandLine();
        await run("aks create -n web -g team --node-count 2");
        const line = "aks nodepool scale --cluster-name web -g team --name";
        expect(await run(`${line} nodepool1 --node-count 5`)).toMatchObject({ count: 5, mode: "System" });
        const { agentPoolProfiles } = await run("aks show -n web -g team");
        expect(agentPoolProfiles).toMatchObject([{ name: "nodepool1", count: 5 }]);
        expect((await refusalOf(type(`${line} other --node-count 5`))).message).toBe(
            "There is no node pool other in a cluster web there.",
        );
    });

    test("of a number of nodes that is none is refused", async () => {
        const { type } = await atTheCommandLine();
        expect((await refusalOf(type("aks create -n web -g team --node-count few"))).message).toBe(
            "--node-count is few; use a number.",
        );
    });
});

describe("lists", () => {
    test("hold what is in the group or subscription only", async () => {
        const { make, run } = await atTheCommandLine();
        await make.registry();
        await make.cluster();
        expect(await run("acr list -g team")).toHaveLength(1);
        expect(await run("acr list --subscription second")).toEqual([]);
        expect(await run("aks list -g other")).toEqual([]);
        expect((await run("resource list")).map(({ type }: { type: string }) => type)).toContain(
            managedClusters.type,
        );
    });
});

describe("config set", () => {
    test("changes how slow Azure is", async () => {
        const { azure, run } = await atTheCommandLine();
        expect(await run("config set propagation=20 latency=0.1")).toEqual({ propagation: 20, latency: 0.1 });
        expect(azure.settings).toMatchObject({ propagationSeconds: 20, latency: 0.1 });
    });

    test.each([
        ["propagation", "propagation does not fit; say propagation=30 or latency=0.1."],
        ["colour=1", "colour=1 does not fit; say propagation=30 or latency=0.1."],
    ])("refuses %s", async (words, problem) => {
        const { type } = await atTheCommandLine();
        expect((await refusalOf(type(`config set ${words}`))).message).toBe(problem);
    });
});
