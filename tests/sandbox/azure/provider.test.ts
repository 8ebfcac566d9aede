import * as fc from "fast-check";
import { azureNativeProvider } from "../../../sandbox/azure/provider";
import { type Properties, unknown } from "../../../sandbox/provider";
import { newTeam, nextGuid, refusalOf, roles } from "./fixture";

const registryType = "azure-native:containerregistry:Registry";
const groupType = "azure-native:resources:ResourceGroup";
const assignmentType = "azure-native:authorization:RoleAssignment";
const clusterType = "azure-native:containerservice:ManagedCluster";
const poolType = "azure-native:containerservice:AgentPool";

const resource = (type: string, name = "example") => ({
    type,
    name,
    urn: `urn:pulumi:dev::test::${type}::${name}`,
});
const seed = Buffer.from("seed");

/** A provider over a team's Azure, and ways to run what the engine runs. */
async function newProvider(config: Properties = {}) {
    const team = await newTeam();
    const tokens = { forCaller: (audience: string) => `a token for ${audience}` };
    const provider = azureNativeProvider(team.azure, tokens)();
    provider.configure(config);
    const check = async (type: string, news: Properties, olds: Properties = {}, name = "example") =>
        provider.check(resource(type, name), olds, news, seed);
    const create = async (type: string, news: Properties) => {
        const { inputs } = await check(type, news);
        return { inputs, ...(await provider.create(resource(type), inputs, false)) };
    };
    return { ...team, provider, check, create };
}

const registryInputs = { resourceGroupName: "team", registryName: "teamregistry", sku: { name: "Basic" } };
const clusterInputs = {
    resourceGroupName: "team",
    resourceName: "web",
    dnsPrefix: "web",
    identity: { type: "SystemAssigned" },
    agentPoolProfiles: [{ name: "system", mode: "System", vmSize: "Standard_D4s_v5" }],
};

describe("check", () => {
    test("names a resource by its logical name and eight hexadecimal digits, always the same for a seed", async () => {
        const { check } = await newProvider({ location: "westeurope" });
        const { inputs } = await check(groupType, {});
        expect(inputs.resourceGroupName).toMatch(/^example[0-9a-f]{8}$/);
        expect((await check(groupType, {})).inputs.resourceGroupName).toBe(inputs.resourceGroupName);
    });

    test("names a role assignment by a GUID", async () => {
        const { check, ids } = await newProvider();
        const { inputs } = await check(assignmentType, { scope: ids.group });
        expect(inputs.roleAssignmentName).toMatch(/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/);
    });

    test("keeps an automatic name, and the mark of it, later on", async () => {
        const { provider, check } = await newProvider({ location: "westeurope" });
        const first = (await check(groupType, {})).inputs;
        const later = await provider.check(
            resource(groupType),
            first,
            { tags: { a: "b" } },
            Buffer.from("another"),
        );
        expect(later.inputs).toEqual({ ...first, tags: { a: "b" } });
    });

    test("takes the location from the configuration", async () => {
        const { check } = await newProvider({ location: "northeurope" });
        expect((await check(registryType, registryInputs)).inputs.location).toBe("northeurope");
    });

    test("takes the location from the resource group where none is configured", async () => {
        const { check } = await newProvider();
        expect((await check(registryType, registryInputs)).inputs.location).toBe("westeurope");
    });

    test("does not know the location while the resource group is unknown", async () => {
        const { check } = await newProvider();
        const { inputs, failures } = await check(registryType, {
            ...registryInputs,
            resourceGroupName: unknown,
        });
        expect(inputs.location).toBe(unknown);
        expect(failures).toEqual([]);
    });

    test("says how to set a location that is nowhere", async () => {
        const { check } = await newProvider();
        expect((await check(groupType, {})).failures?.map(({ reason }) => reason)).toEqual([
            "missing required property 'location'. Either set it explicitly or configure it with 'pulumi config set azure-native:location <value>'.",
        ]);
    });

    test("refuses a name that the service would refuse", async () => {
        const { check } = await newProvider();
        const { failures } = await check(registryType, { ...registryInputs, registryName: "team-registry" });
        expect(failures?.map(({ reason }) => reason)).toEqual([
            "'registryName' does not match expression '^[a-zA-Z0-9]{5,50}$'",
        ]);
    });

    test("refuses a resource type that there is not", async () => {
        const { check } = await newProvider();
        await expect(check("azure-native:cooking:Stove", {})).rejects.toThrow(
            "Resource type azure-native:cooking:Stove not found",
        );
    });
});

describe("diff", () => {
    const diff = async (type: string, olds: Properties, news: Properties) => {
        const { provider } = await newProvider();
        return provider.diff(resource(type), "id", { inputs: olds, outputs: {} }, news);
    };

    test("of equal inputs is empty", async () => {
        await fc.assert(
            fc.asyncProperty(fc.dictionary(fc.string(), fc.jsonValue()), async (inputs) => {
                expect((await diff(registryType, inputs, structuredClone(inputs))).changed).toEqual([]);
            }),
        );
    });

    test("names the paths that changed", async () => {
        const olds = {
            sku: { name: "Basic" },
            tags: { "a.b": "1" },
            agentPoolProfiles: [{ count: 1 }, { count: 1 }],
        };
        const news = { sku: { name: "Standard" }, tags: {}, agentPoolProfiles: [{ count: 1 }, { count: 2 }] };
        expect((await diff(clusterType, olds, news)).changed).toEqual([
            "sku.name",
            'tags["a.b"]',
            "agentPoolProfiles[1].count",
        ]);
    });

    test.each([
        [clusterType, { dnsPrefix: "a" }, { dnsPrefix: "b" }, ["dnsPrefix"]],
        [
            clusterType,
            { networkProfile: { podCidr: "a" } },
            { networkProfile: { podCidr: "b" } },
            ["networkProfile.podCidr"],
        ],
        [clusterType, { identityProfile: { a: "1" } }, { identityProfile: { a: "2" } }, []],
        [clusterType, { sku: { tier: "Free" } }, { sku: { tier: "Standard" } }, []],
        [clusterType, { agentPoolProfiles: [{ vmSize: "a" }] }, { agentPoolProfiles: [{ vmSize: "b" }] }, []],
        [poolType, { vmSize: "a" }, { vmSize: "b" }, ["vmSize"]],
        [poolType, { count: 1 }, { count: 2 }, []],
        [assignmentType, { principalId: "a" }, { principalId: "b" }, ["principalId"]],
        [assignmentType, { scope: "a" }, { scope: "b" }, ["scope"]],
        [assignmentType, { description: "a" }, { description: "b" }, []],
        [registryType, { registryName: "a" }, { registryName: "b" }, ["registryName"]],
        [registryType, { location: "westeurope" }, { location: "northeurope" }, ["location"]],
        [registryType, { sku: { name: "Basic" } }, { sku: { name: "Premium" } }, []],
        [registryType, { resourceGroupName: "a" }, { resourceGroupName: unknown }, ["resourceGroupName"]],
    ])("of %s from %j to %j replaces because of %j", async (type, olds, news, replaces) => {
        const difference = await diff(type, olds, news);
        expect(difference.changed).toHaveLength(1);
        expect(difference.replaces).toEqual(replaces);
    });

    test("takes two spellings of a location for one", async () => {
        expect(
            (await diff(registryType, { location: "westeurope" }, { location: "West Europe" })).changed,
        ).toEqual([]);
    });

    test("deletes a resource of a given name first, and creates first where the name is automatic", async () => {
        const [olds, news] = [{ dnsPrefix: "a" }, { dnsPrefix: "b" }];
        expect((await diff(clusterType, olds, news)).deleteBeforeReplace).toBe(true);
        const automatic = { __createBeforeDelete: true };
        const difference = await diff(clusterType, { ...olds, ...automatic }, { ...news, ...automatic });
        expect(difference.deleteBeforeReplace).toBe(false);
    });
});

describe("create", () => {
    test("answers with Azure's id, the outputs at the top level and the API version", async () => {
        const { create, ids } = await newProvider();
        const { id, outputs } = await create(registryType, registryInputs);
        expect(id).toBe(ids.registry);
        expect(outputs).toMatchObject({
            name: "teamregistry",
            loginServer: "teamregistry.azurecr.io",
            location: "westeurope",
            type: "Microsoft.ContainerRegistry/registries",
            azureApiVersion: "2023-01-01-preview",
        });
        expect(outputs).not.toHaveProperty("resourceGroupName");
    });

    test("refuses what exists already", async () => {
        const { create, ids } = await newProvider();
        await create(registryType, registryInputs);
        await expect(create(registryType, registryInputs)).rejects.toMatchObject({
            message: `cannot create already existing resource '${ids.registry}'`,
        });
    });

    test("prints an error of Azure with its status, code and message", async () => {
        const { create, azure, ids } = await newProvider();
        const other = ids.group.replace("team", "other");
        await azure.put(other, { location: "westeurope" });
        await azure.put(ids.registry.replace(ids.group, other), { location: "westeurope" });
        await expect(create(registryType, registryInputs)).rejects.toMatchObject({
            message:
                'Status=409 Code="AlreadyInUse" Message="The registry DNS name teamregistry.azurecr.io is already in use."',
        });
    });

    test("prints an error of AKS with its whole answer", async () => {
        const { create } = await newProvider();
        const refusal = await refusalOf(
            create(clusterType, { ...clusterInputs, kubernetesVersion: "1.2.3" }),
        );
        expect(refusal.message).toMatch(
            /^Status=400 Code="K8sVersionNotSupported" Message="\{"code":"K8sVersionNotSupported","details":null,"message":"Managed cluster web is on version 1\.2\.3 .*","subcode":""\}"$/,
        );
    });

    test("says that it cannot even look", async () => {
        const { create, azure, ids } = await newProvider();
        azure.addPrincipal({ objectId: nextGuid(), name: "stranger", type: "User" });
        azure.signIn("stranger");
        const refusal = await refusalOf(create(registryType, registryInputs));
        expect(refusal.message).toMatch(
            `cannot check existence of resource '${ids.registry}': status code 403, {"error":`,
        );
    });

    test("at a preview changes nothing, and knows the inputs only", async () => {
        const { provider, check, azure, ids } = await newProvider();
        const { inputs } = await check(registryType, registryInputs);
        const { id, outputs } = await provider.create(resource(registryType), inputs, true);
        expect(id).toBe("");
        expect(outputs).toMatchObject({
            location: "westeurope",
            sku: { name: "Basic" },
            name: unknown,
            loginServer: unknown,
        });
        expect(azure.resource(ids.registry)).toBeUndefined();
    });
});

describe("update", () => {
    test("changes the resource", async () => {
        const { provider, create, azure, ids } = await newProvider();
        const { id, inputs, outputs } = await create(registryType, registryInputs);
        const news = { ...inputs, adminUserEnabled: true };
        const updated = await provider.update(resource(registryType), id, { inputs, outputs }, news, false);
        expect(updated.adminUserEnabled).toBe(true);
        expect(azure.get(ids.registry).adminUserEnabled).toBe(true);
    });

    test("at a preview knows the inputs, the name and the location, and nothing else", async () => {
        const { provider, create } = await newProvider();
        const { id, inputs, outputs } = await create(clusterType, clusterInputs);
        const news = { ...inputs, tags: { team: "web" } };
        const preview = await provider.update(resource(clusterType), id, { inputs, outputs }, news, true);
        expect(preview).toMatchObject({
            name: "web",
            location: "westeurope",
            tags: { team: "web" },
            fqdn: unknown,
            currentKubernetesVersion: unknown,
        });
        expect(preview).not.toHaveProperty("identityProfile");
    });
});

describe("read", () => {
    test("finds nothing where the resource, or its group, is gone", async () => {
        const { provider, create, azure, ids } = await newProvider();
        const { id, inputs, outputs } = await create(registryType, registryInputs);
        await azure.delete(id);
        expect(await provider.read(resource(registryType), id, { inputs, outputs })).toBeUndefined();
        await azure.delete(ids.group);
        expect(await provider.read(resource(registryType), id, { inputs, outputs })).toBeUndefined();
    });

    test("gives back inputs and outputs as they were where nothing has changed", async () => {
        const { provider, create } = await newProvider();
        for (const [type, given] of [
            [registryType, registryInputs],
            [clusterType, clusterInputs],
        ] as const) {
            const { id, inputs, outputs } = await create(type, given);
            expect(await provider.read(resource(type), id, { inputs, outputs })).toEqual({
                id,
                inputs,
                outputs,
            });
        }
    });

    test("shows what somebody else changed in the inputs", async () => {
        const { provider, create, azure } = await newProvider();
        const { id, inputs, outputs } = await create(registryType, {
            ...registryInputs,
            tags: { a: "1", b: "2" },
        });
        const body = {
            location: "westeurope",
            sku: { name: "Basic" },
            adminUserEnabled: true,
            tags: { a: "3" },
        };
        await azure.put(id, body, azure.owner);
        const read = await provider.read(resource(registryType), id, { inputs, outputs });
        expect(read?.inputs).toEqual({ ...inputs, adminUserEnabled: true, tags: { a: "3" } });
    });

    test("leaves inputs alone that Azure never shows", async () => {
        const { provider, create, azure } = await newProvider();
        const { id, inputs, outputs } = await create(registryType, registryInputs);
        await azure.put(id, { location: "westeurope", sku: { name: "Standard" } }, azure.owner);
        const read = await provider.read(resource(registryType), id, { inputs, outputs });
        expect(read?.inputs).toEqual({
            ...inputs,
            sku: { ...inputs.sku, name: "Standard", tier: "Standard" },
        });
    });

    test("without inputs imports: the inputs come from the id and from Azure", async () => {
        const { provider, make, ids } = await newProvider();
        const who = nextGuid();
        const { id, name } = await make.grant(ids.group, who, roles.acrPull);
        const read = await provider.read(resource(assignmentType), id, { inputs: {}, outputs: {} });
        expect(read?.inputs).toMatchObject({
            scope: ids.group,
            roleAssignmentName: name,
            principalId: who,
            principalType: "ServicePrincipal",
        });
        expect(read?.inputs).not.toHaveProperty("provisioningState");
    });
});

describe("read of a cluster", () => {
    test("shows a pool that was added since, without what only Azure can say of it", async () => {
        const { provider, create, azure, ids } = await newProvider();
        const { id, inputs, outputs } = await create(clusterType, clusterInputs);
        await azure.put(`${ids.cluster}/agentPools/user`, { vmSize: "Standard_D4s_v5" });
        const read = await provider.read(resource(clusterType), id, { inputs, outputs });
        expect(read?.inputs.agentPoolProfiles).toHaveLength(2);
        expect(read?.inputs.agentPoolProfiles[1]).toMatchObject({ name: "user", mode: "User" });
        expect(read?.inputs.agentPoolProfiles[1]).not.toHaveProperty("currentOrchestratorVersion");
    });

    test("imports its identities as the list that azure-native takes", async () => {
        const { provider, create, make } = await newProvider();
        const controlPlane = await make.identity("control-plane");
        const identity = { type: "UserAssigned", userAssignedIdentities: [controlPlane.id] };
        const { id } = await create(clusterType, { ...clusterInputs, identity });
        const read = await provider.read(resource(clusterType), id, { inputs: {}, outputs: {} });
        expect(read?.inputs).toMatchObject({ identity, resourceGroupName: "team", resourceName: "web" });
        expect(read?.inputs).not.toHaveProperty("fqdn");
    });
});

describe("delete", () => {
    test("of what is gone already succeeds", async () => {
        const { provider, create, azure, ids } = await newProvider();
        const { id, inputs, outputs } = await create(registryType, registryInputs);
        await azure.delete(ids.group);
        await provider.delete(resource(registryType), id, { inputs, outputs });
    });

    test("that Azure refuses fails", async () => {
        const { provider, create, azure } = await newProvider();
        const { id, inputs, outputs } = await create(registryType, registryInputs);
        azure.signIn("reader@example.com");
        await expect(provider.delete(resource(registryType), id, { inputs, outputs })).rejects.toThrow(
            'Status=403 Code="AuthorizationFailed"',
        );
    });
});

describe("invoke", () => {
    test("getClientConfig says who calls", async () => {
        const { provider, azure } = await newProvider();
        expect(await provider.invoke("azure-native:authorization:getClientConfig", {})).toEqual({
            clientId: "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
            objectId: azure.caller.objectId,
            subscriptionId: azure.subscriptionId,
            tenantId: azure.tenantId,
        });
    });

    test.each([
        [
            { endpoint: "https://containerregistry.azure.net" },
            "a token for https://containerregistry.azure.net",
        ],
        [{}, "a token for https://management.azure.com/"],
    ])("getClientToken of %j gives a token for that", async (args, token) => {
        const { provider } = await newProvider();
        expect(await provider.invoke("azure-native:authorization:getClientToken", args)).toEqual({ token });
    });

    test("listManagedClusterUserCredentials gives the kubeconfig", async () => {
        const { provider, create } = await newProvider();
        await create(clusterType, clusterInputs);
        const { kubeconfigs } = await provider.invoke(
            "azure-native:containerservice:listManagedClusterUserCredentials",
            { resourceGroupName: "team", resourceName: "web" },
        );
        expect(kubeconfigs).toEqual([{ name: "clusterUser", value: expect.stringMatching(/^YXBp/) }]);
    });

    test("getRegistry shows a registry, with its id", async () => {
        const { provider, create, ids } = await newProvider();
        const { outputs } = await create(registryType, registryInputs);
        const shown = await provider.invoke("azure-native:containerregistry:getRegistry", registryInputs);
        expect(shown).toEqual({ ...outputs, id: ids.registry });
    });

    test("getClientConfig says which application a service principal is", async () => {
        const { provider, azure } = await newProvider();
        const { clientId, objectId } = azure.signIn("deployer");
        expect(await provider.invoke("azure-native:authorization:getClientConfig", {})).toMatchObject({
            clientId,
            objectId,
        });
    });

    test("getManagedCluster shows what decides whether a cluster can be used", async () => {
        const { provider, create, azure } = await newProvider();
        const aadProfile = { managed: true };
        await create(clusterType, { ...clusterInputs, aadProfile, disableLocalAccounts: true });
        const args = { resourceGroupName: "team", resourceName: "web" };
        expect(await provider.invoke("azure-native:containerservice:getManagedCluster", args)).toMatchObject({
            powerState: { code: "Running" },
            agentPoolProfiles: [{ name: "system", vmSize: "Standard_D4s_v5", osType: "Linux" }],
            identityProfile: { kubeletidentity: { objectId: azure.find("web-agentpool")?.objectId } },
            servicePrincipalProfile: { clientId: "msi" },
            disableLocalAccounts: true,
            aadProfile: { managed: true, tenantID: azure.tenantId },
        });
    });

    test("getRoleAssignment shows an assignment by scope and name", async () => {
        const { provider, make, ids } = await newProvider();
        const { id, name, principalId } = await make.grant(ids.group, nextGuid(), roles.acrPull);
        const args = { scope: ids.group, roleAssignmentName: name };
        expect(await provider.invoke("azure-native:authorization:getRoleAssignment", args)).toMatchObject({
            id,
            principalId,
        });
    });

    test("of a resource that there is not fails with what was asked for", async () => {
        const { provider, ids } = await newProvider();
        const args = { resourceGroupName: "team", resourceName: "web" };
        await expect(
            provider.invoke("azure-native:containerservice:getManagedCluster", args),
        ).rejects.toMatchObject({
            message: `request failed ${ids.cluster}: Status=404 Code="ResourceNotFound" Message="The Resource 'Microsoft.ContainerService/managedClusters/web' under resource group 'team' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"`,
        });
    });

    test.each(["azure-native:cooking:getStove", "azure-native:containerregistry:Registry"])(
        "of %s fails",
        async (token) => {
            const { provider } = await newProvider();
            await expect(provider.invoke(token, {})).rejects.toThrow(`Invoke type ${token} not found`);
        },
    );
});

describe("a provider for another subscription", () => {
    test("creates there, and looks there", async () => {
        const { azure } = await newTeam();
        const subscriptionId = azure.subscriptions[1]?.id ?? "";
        const { create, provider } = await newProvider({ subscriptionId, location: "eastus" });
        const { id } = await create(groupType, { resourceGroupName: "far" });
        expect(id).toBe(`/subscriptions/${subscriptionId}/resourceGroups/far`);
        const args = { resourceGroupName: "far" };
        expect(await provider.invoke("azure-native:resources:getResourceGroup", args)).toMatchObject({ id });
        expect(await provider.invoke("azure-native:authorization:getClientConfig", {})).toMatchObject({
            subscriptionId,
        });
    });

    test("of another tenant is refused", async () => {
        const { azure } = await newTeam();
        const { id: subscriptionId } = azure.subscriptions.at(-1) ?? { id: "" };
        const { provider } = await newProvider({ subscriptionId });
        const args = { resourceGroupName: "team" };
        await expect(provider.invoke("azure-native:resources:getResourceGroup", args)).rejects.toThrow(
            `request failed /subscriptions/${subscriptionId}/resourceGroups/team: Status=401 Code="InvalidAuthenticationTokenTenant" Message="The access token is from the wrong issuer`,
        );
    });
});

describe("with nobody signed in", () => {
    const words = "ERROR: Please run 'az login' to setup account.";

    test.each([
        "azure-native:authorization:getClientConfig",
        "azure-native:authorization:getClientToken",
        "azure-native:resources:getResourceGroup",
    ])("%s fails", async (token) => {
        const { provider, azure } = await newProvider();
        azure.configure({ signedInAs: "" });
        const invocation = provider.invoke(token, { resourceGroupName: "team" });
        await expect(invocation).rejects.toMatchObject({ message: words });
    });

    test("no resource is checked, read or deleted", async () => {
        const { provider, create, check, azure } = await newProvider();
        const { id, inputs, outputs } = await create(registryType, registryInputs);
        azure.configure({ signedInAs: "" });
        await expect(check(registryType, registryInputs)).rejects.toThrow(words);
        const state = { inputs, outputs };
        await expect(provider.read(resource(registryType), id, state)).rejects.toThrow(words);
        await expect(provider.delete(resource(registryType), id, state)).rejects.toThrow(words);
        azure.signIn("owner@example.com");
        expect(await provider.read(resource(registryType), id, state)).toMatchObject({ id });
    });
});
