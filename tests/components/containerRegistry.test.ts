import * as fc from "fast-check";
import { ContainerRegistry, derivedRegistryName } from "../../components/containerRegistry";
import { inputsOf, mockedStack, resolved, withGroup } from "./stack";

const registryType = "azure-native:containerregistry:Registry";

describe("ContainerRegistry", () => {
    it("has no admin user and no anonymous pull", async () => {
        const mocks = await mockedStack();
        const registry = new ContainerRegistry("registry", {
            resourceGroupName: await withGroup(mocks),
            name: "teamimages",
            clusterName: "dev",
        });
        expect(await resolved(registry.loginServer)).toBe("teamimages.azurecr.io");
        expect(inputsOf(mocks, registryType)).toEqual({
            resourceGroupName: "team",
            registryName: "teamimages",
            sku: { name: "Basic" },
            adminUserEnabled: false,
            anonymousPullEnabled: false,
            // The SDK's own defaults.
            networkRuleBypassOptions: "AzureServices",
            publicNetworkAccess: "Enabled",
            zoneRedundancy: "Disabled",
        });
        expect(mocks.of("random:index/randomString:RandomString")).toEqual([]);
    });

    it("is named after the cluster, with a random suffix, where it is given no name", async () => {
        const mocks = await mockedStack();
        const resourceGroupName = await withGroup(mocks);
        const registry = new ContainerRegistry("registry", { resourceGroupName, clusterName: "nginx-dev" });
        expect(await resolved(registry.registryName)).toBe("aksnginxdevacrabcdef");
        expect(inputsOf(mocks, "random:index/randomString:RandomString")).toEqual({
            length: 6,
            upper: false,
            special: false,
        });
    });

    it("makes nothing where the registry is there already", async () => {
        const mocks = await mockedStack();
        const existing = {
            registryId:
                "/subscriptions/s/resourceGroups/shared/providers/Microsoft.ContainerRegistry/registries/teamimages",
            registryName: "teamimages",
            loginServer: "teamimages-e7ggejfuhzhgedc8.azurecr.io",
        };
        const { registryId, registryName, loginServer } = new ContainerRegistry("registry", { existing });
        expect(await resolved({ registryId, registryName, loginServer })).toEqual(existing);
        expect(mocks.resources.map(({ type }) => type)).toEqual(["aks-acr:index:ContainerRegistry"]);
    });

    it("takes a service tier, a region and tags", async () => {
        const mocks = await mockedStack();
        const registry = new ContainerRegistry("registry", {
            resourceGroupName: await withGroup(mocks),
            name: "teamimages",
            clusterName: "dev",
            sku: "Premium",
            location: "northeurope",
            tags: { team: "web" },
        });
        await resolved(registry.registryId);
        expect(inputsOf(mocks, registryType)).toMatchObject({
            sku: { name: "Premium" },
            location: "northeurope",
            tags: { team: "web" },
        });
    });
});

describe("a derived registry name", () => {
    it("is valid and keeps its suffix, whatever the cluster is called", () => {
        fc.assert(
            fc.property(
                fc.string({ maxLength: 63 }),
                fc.stringMatching(/^[a-z0-9]{6}$/),
                (cluster, suffix) => {
                    const name = derivedRegistryName(cluster, suffix);
                    expect(name).toMatch(/^aks[a-z0-9]{0,38}acr[a-z0-9]{6}$/);
                    expect(name.length).toBeLessThanOrEqual(50);
                    expect(name.endsWith(`acr${suffix}`)).toBe(true);
                },
            ),
        );
    });
});
