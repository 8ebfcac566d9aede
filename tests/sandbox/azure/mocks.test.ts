import { AzureMocks, noInfrastructure } from "../../../sandbox/azure/mocks";
import { Azure } from "../../../sandbox/azure/model";

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

    test("act as whoever is signed in to the model they are given", async () => {
        const azure = new Azure({ infrastructure: noInfrastructure });
        azure.signIn("reader@example.com");
        const registration = new AzureMocks({ azure }).newResource(
            registering(groupType, { resourceGroupName: "team" }),
        );
        await expect(registration).rejects.toThrow("The client 'reader@example.com'");
    });

    test("take an explicit provider's subscription for resources and functions", async () => {
        const mocks = new AzureMocks();
        const subscriptionId = mocks.azure.subscriptions[1]?.id;
        const type = "pulumi:providers:azure-native";
        const made = await mocks.newResource(
            registering(type, { subscriptionId, location: "eastus" }, "far"),
        );
        const provider = `urn:pulumi:dev::aks-acr::${type}::far::${made.id}`;
        const { id } = await mocks.newResource({
            ...registering(groupType, { resourceGroupName: "team" }),
            provider,
        });
        expect(id).toBe(`/subscriptions/${subscriptionId}/resourceGroups/team`);
        const token = "azure-native:resources:getResourceGroup";
        const inputs = { resourceGroupName: "team" };
        expect(await mocks.call({ token, inputs, provider })).toMatchObject({ id });
        await expect(mocks.call({ token, inputs })).rejects.toThrow("ResourceGroupNotFound");
    });
});

describe("the mocks' upstream", () => {
    const digest = `sha256:${"ab".repeat(32)}`;
    const mocks = new AzureMocks({
        upstream: { "nginx:1.29": { digest, architectures: ["amd64", "arm64"] } },
    });
    const image = "docker:index/getRegistryImage:getRegistryImage";
    const manifests = "docker:index/getRegistryImageManifests:getRegistryImageManifests";

    test("answers an image's digest", async () => {
        const answer = await mocks.call({ token: image, inputs: { name: "nginx:1.29" } });
        expect(answer).toMatchObject({ name: "nginx:1.29", sha256Digest: digest });
    });

    test("answers a manifest with a digest of its own for each architecture", async () => {
        const answer = await mocks.call({ token: manifests, inputs: { name: "nginx:1.29" } });
        const sha256Digest = expect.stringMatching(/^sha256:[\da-f]{64}$/);
        const common = { os: "linux", mediaType: "application/vnd.oci.image.manifest.v1+json", sha256Digest };
        expect(answer.manifests).toEqual([
            { architecture: "amd64", ...common },
            { architecture: "arm64", ...common },
        ]);
        expect(answer.manifests[0].sha256Digest).not.toBe(answer.manifests[1].sha256Digest);
    });

    test.each([image, manifests])("has no image that it was not given: %s", async (token) => {
        await expect(mocks.call({ token, inputs: { name: "nginx:none" } })).rejects.toThrow(
            "Got bad response from registry: 404 Not Found",
        );
    });
});
