import { AzureMocks } from "../../../sandbox/azure/mocks";

/** What a mock is asked when a program registers a resource. */
const registering = (type: string, inputs: Record<string, unknown>, name = "example") => ({
    type,
    name,
    inputs,
    custom: true,
});

const groupType = "azure-native:resources:ResourceGroup";

describe("the mocks", () => {
    test("create azure-native's resources in the model", async () => {
        const mocks = new AzureMocks();
        const { id, state } = await mocks.newResource(registering(groupType, { resourceGroupName: "team" }));
        expect(id).toBe(`/subscriptions/${mocks.azure.subscriptionId}/resourceGroups/team`);
        expect(state).toMatchObject({ name: "team", location: "westeurope" });
        expect(mocks.azure.get(id ?? "").name).toBe("team");
    });

    test("remember what was registered, by type and name", async () => {
        const mocks = new AzureMocks();
        const inputs = { resourceGroupName: "team" };
        const { id } = await mocks.newResource(registering(groupType, inputs));
        expect(mocks.of(groupType, "example")).toEqual([{ type: groupType, name: "example", inputs, id }]);
        expect(mocks.of(groupType, "another")).toEqual([]);
    });

    test("refuse what Azure refuses, in the same words", async () => {
        const mocks = new AzureMocks();
        const inputs = { resourceGroupName: "nowhere", registryName: "teamregistry", sku: { name: "Basic" } };
        const registration = mocks.newResource(
            registering("azure-native:containerregistry:Registry", inputs),
        );
        await expect(registration).rejects.toThrow(
            'Status=404 Code="ResourceGroupNotFound" Message="Resource group \'nowhere\' could not be found."',
        );
        expect(mocks.resources).toEqual([]);
    });

    test("refuse inputs as azure-native's check does", async () => {
        const mocks = new AzureMocks();
        const inputs = { resourceGroupName: "team", registryName: "a-b", sku: { name: "Basic" } };
        const registration = mocks.newResource(
            registering("azure-native:containerregistry:Registry", inputs),
        );
        await expect(registration).rejects.toThrow(
            "azure-native:containerregistry:Registry resource 'example' has a problem: 'registryName' does not match expression '^[a-zA-Z0-9]{5,50}$'",
        );
    });

    test("refuse types and functions of azure-native that they do not know", async () => {
        const mocks = new AzureMocks();
        const type = "azure-native:network:VirtualNetwork";
        await expect(mocks.newResource(registering(type, {}))).rejects.toThrow(
            `Resource type ${type} not found`,
        );
        const token = "azure-native:network:getVirtualNetwork";
        await expect(mocks.call({ token, inputs: {} })).rejects.toThrow(`Invoke type ${token} not found`);
        await expect(mocks.call({ token: "aws:index:getRegion", inputs: {} })).rejects.toThrow(
            "Invoke type aws:index:getRegion not found",
        );
    });

    test("read an existing resource by its id", async () => {
        const mocks = new AzureMocks();
        const { azure } = mocks;
        const { id } = await azure.put(`/subscriptions/${azure.subscriptionId}/resourceGroups/team`, {
            location: "westeurope",
        });
        const { state } = await mocks.newResource({ ...registering(groupType, {}), id });
        expect(state).toMatchObject({ name: "team" });
    });

    test("see through the mark of a secret, wherever it is", async () => {
        const mocks = new AzureMocks();
        const secret = (value: unknown) => ({
            "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
            value,
        });
        await mocks.newResource(registering("kubernetes:core/v1:Secret", secret({ data: [secret("one")] })));
        expect(mocks.resources[0]?.inputs).toEqual({ data: ["one"] });
    });

    test("answer a random string of the length asked for", async () => {
        const inputs = { length: 6, special: false };
        const { state } = await new AzureMocks().newResource(
            registering("random:index/randomString:RandomString", inputs),
        );
        expect(state).toEqual({ ...inputs, result: "abcdef" });
    });

    test("answer a pushed image by digest", async () => {
        const imageName = "team.azurecr.io/web/nginx:v1";
        const inputs = { imageName, registry: { server: "team.azurecr.io" } };
        const { state } = await new AzureMocks().newResource(registering("docker:index/image:Image", inputs));
        expect(state.repoDigest).toMatch(/^team\.azurecr\.io\/web\/nginx@sha256:[0-9a-f]{64}$/);
    });

    test("record components, which have no id", async () => {
        const mocks = new AzureMocks();
        const type = "aks-acr:index:AcrPull";
        const { id } = await mocks.newResource({ ...registering(type, {}), custom: false });
        expect(id).toBeUndefined();
        expect(mocks.of(type)).toHaveLength(1);
    });
});
