import { noInfrastructure } from "../../../sandbox/azure/mocks";
import { Azure, contains, durations, guid } from "../../../sandbox/azure/model";
import { bringing, newTeam, nextGuid, refusalOf, roles } from "./fixture";

describe("a resource", () => {
    test("is found whatever the case of its id", async () => {
        const { azure, ids } = await newTeam();
        expect(azure.get(ids.group.toUpperCase().replace("SUBSCRIPTIONS", "subscriptions")).name).toBe(
            "team",
        );
    });

    test("is not found where there is none", async () => {
        const { azure, ids } = await newTeam();
        expect(await refusalOf(() => azure.get(ids.cluster))).toMatchObject({
            status: 404,
            code: "ResourceNotFound",
            message:
                "The Resource 'Microsoft.ContainerService/managedClusters/web' under resource group 'team' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
        });
    });

    test("needs its resource group", async () => {
        const { azure, ids } = await newTeam();
        const id = ids.identity("kubelet").replace("team", "nowhere");
        expect(await refusalOf(azure.put(id, { location: "westeurope" }))).toMatchObject({
            status: 404,
            code: "ResourceGroupNotFound",
            message: "Resource group 'nowhere' could not be found.",
        });
    });

    test("needs a subscription that there is", async () => {
        const { azure } = await newTeam();
        const id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/team";
        expect((await refusalOf(() => azure.get(id))).message).toBe(
            "The subscription '00000000-0000-0000-0000-000000000000' could not be found.",
        );
    });

    test("needs a type that Azure has", async () => {
        const { azure, ids } = await newTeam();
        const refusal = await refusalOf(() =>
            azure.get(`${ids.group}/providers/Microsoft.Cooking/stoves/one`),
        );
        expect(refusal.code).toBe("InvalidResourceType");
    });

    test("needs a location", async () => {
        const { azure, ids } = await newTeam();
        expect(await refusalOf(azure.put(ids.registry, { sku: { name: "Basic" } }))).toMatchObject({
            code: "LocationRequired",
            message: "The location property is required for this definition.",
        });
    });

    test("stays where it is", async () => {
        const { azure, ids, make } = await newTeam();
        await make.registry();
        expect(await refusalOf(make.registry({ location: "northeurope" }))).toMatchObject({
            status: 409,
            code: "InvalidResourceLocation",
        });
        expect(await refusalOf(azure.put(ids.group, { location: "northeurope" }))).toMatchObject({
            status: 409,
            code: "InvalidResourceGroupLocation",
            message:
                "Invalid resource group location 'northeurope'. The Resource group already exists in location 'westeurope'.",
        });
        expect(await make.registry({ location: "West Europe" })).toMatchObject({ location: "westeurope" });
    });

    test("keeps nothing of an earlier PUT that the next one leaves out", async () => {
        const { make } = await newTeam();
        await make.registry({ tags: { team: "web" } });
        expect(await make.registry()).not.toHaveProperty("tags");
    });

    test("cannot be changed through what a GET gave", async () => {
        const { azure, ids, make } = await newTeam();
        (await make.registry()).sku.name = "Premium";
        expect(azure.get(ids.registry).sku.name).toBe("Basic");
    });

    test("that is deleted twice is not there the second time", async () => {
        const { azure, ids, make } = await newTeam();
        await make.registry();
        await azure.delete(ids.registry);
        expect(await refusalOf(azure.delete(ids.registry))).toMatchObject({ status: 404 });
    });
});

describe("a subscription", () => {
    const groupIn = (subscription: string | undefined) =>
        `/subscriptions/${subscription}/resourceGroups/other`;

    test.each([
        ["owner@example.com", true],
        ["deployer", true],
        ["reader@example.com", false],
    ])("beside the default one gives %s the same roles", async (who, mayCreate) => {
        const { azure } = await newTeam();
        azure.signIn(who);
        const creation = azure.put(groupIn(azure.subscriptions[1]?.id), { location: "westeurope" });
        expect(
            await creation.then(
                () => true,
                ({ code }) => code !== "AuthorizationFailed",
            ),
        ).toBe(mayCreate);
    });

    test("of another tenant takes no token of this one", async () => {
        const { azure } = await newTeam();
        const [other] = azure.subscriptions.filter(({ tenantId }) => tenantId !== azure.tenantId);
        expect(await refusalOf(() => azure.get(groupIn(other?.id)))).toMatchObject({
            status: 401,
            code: "InvalidAuthenticationTokenTenant",
            message: `The access token is from the wrong issuer 'https://sts.windows.net/${azure.tenantId}/'. It must match the tenant 'https://sts.windows.net/${other?.tenantId}/' associated with this subscription. Please use the authority (URL) 'https://login.windows.net/${other?.tenantId}' to get the token. Note, if the subscription is transferred to another tenant there is no impact to the services, but information about new tenant could take time to propagate (up to an hour). If you just transferred your subscription and see this error message, please try back later.`,
        });
    });
});

describe("a deleted resource group", () => {
    test("takes everything in it along, running processes included", async () => {
        const stopped: string[] = [];
        const infrastructure = {
            ...noInfrastructure,
            stopRegistry: async ({ name }: { name: string }) => void stopped.push(name),
            stopCluster: async ({ name }: { name: string }) => void stopped.push(name),
        };
        const { azure, ids, make } = await newTeam({ infrastructure });
        await make.registry();
        await make.cluster();
        const { principalId } = await make.identity("kubelet");
        await make.grant(ids.registry, principalId, roles.acrPull);
        const kept = azure.resources().filter(({ id }) => !contains(ids.group, id) && !id.includes("MC_"));
        await azure.delete(ids.group);
        expect(stopped.sort()).toEqual(["teamregistry", "web"]);
        expect(azure.resources()).toEqual(kept);
        expect(azure.find(principalId)).toBeUndefined();
    });
});

describe("an identity", () => {
    test("is a principal of the tenant until it is deleted", async () => {
        const { azure, make } = await newTeam();
        const { id, principalId, clientId, tenantId } = await make.identity("kubelet");
        expect(azure.find(clientId)).toMatchObject({ objectId: principalId, type: "ServicePrincipal" });
        expect(tenantId).toBe(azure.tenantId);
        await azure.delete(id);
        expect(azure.find(principalId)).toBeUndefined();
    });

    test("keeps its ids on an update", async () => {
        const { make } = await newTeam();
        expect((await make.identity("kubelet")).principalId).toBe(
            (await make.identity("kubelet")).principalId,
        );
    });

    test("leaves its role assignments on others behind when it is deleted", async () => {
        const { azure, ids, make } = await newTeam();
        const { id, principalId } = await make.identity("kubelet");
        const grant = await make.grant(ids.group, principalId, roles.acrPull);
        await azure.delete(id);
        expect(azure.resource(grant.id)).toBeDefined();
    });
});

describe("with latency", () => {
    test("an operation takes Azure's duration times the factor", async () => {
        const { azure, make, slept } = await newTeam();
        azure.configure({ latency: 0.1 });
        await make.registry();
        const { create = 0 } = durations()["Microsoft.ContainerRegistry/registries"] ?? {};
        expect(slept).toEqual([create * 100]);
    });

    test("it runs beside the real work, not after it", async () => {
        const events: string[] = [];
        const { azure, make } = await newTeam({
            sleep: async () => void events.push("slept"),
            infrastructure: {
                ...noInfrastructure,
                startRegistry: async () => {
                    await new Promise((resolve) => setTimeout(resolve, 5));
                    events.push("started");
                    return { loginServer: "127.0.0.1:5000" };
                },
            },
        });
        azure.configure({ latency: 1 });
        await make.registry();
        expect(events).toEqual(["slept", "started"]);
    });

    test("a refusal is not slowed down", async () => {
        const { azure, make, slept } = await newTeam();
        azure.configure({ latency: 1 });
        await refusalOf(make.registry({ location: undefined }));
        expect(slept).toEqual([]);
    });
});

describe("the state", () => {
    test("is JSON that another model goes on with", async () => {
        const { azure, ids, make } = await newTeam();
        await make.registry();
        const controlPlane = await make.identity("control-plane");
        const kubelet = await make.identity("kubelet");
        await make.grant(kubelet.id, controlPlane.principalId, roles.identityOperator);
        await make.cluster(bringing(controlPlane, kubelet));
        await make.grant(ids.registry, kubelet.principalId, roles.acrPull);
        azure.signIn("contributor@example.com");
        const state = JSON.parse(JSON.stringify(azure));
        const next = new Azure({ infrastructure: noInfrastructure, state });
        expect(next.list()).toEqual(azure.list());
        expect(next.caller).toEqual(azure.caller);
        expect(next.canPull(kubelet.principalId, ids.registry)).toBe(true);
    });

    test("holds no kubeconfig; resuming starts what there is and brings it back", async () => {
        const { azure, ids, make } = await newTeam();
        await make.registry();
        await make.cluster();
        expect(JSON.stringify(azure)).not.toContain("kind: Config");
        const startRegistry = async () => ({ loginServer: "127.0.0.1:5001" });
        const infrastructure = { ...noInfrastructure, startRegistry };
        const next = new Azure({ infrastructure, state: azure.toJSON() });
        await next.resume();
        expect(next.get(ids.registry).loginServer).toBe("127.0.0.1:5001");
        expect(next.clusterUserCredentials(ids.cluster)).toEqual(azure.clusterUserCredentials(ids.cluster));
        expect(next.get(ids.cluster)).toEqual(azure.get(ids.cluster));
    });

    test("forgets what was being created when the process ended, and lets it be created again", async () => {
        const never = () => new Promise<never>(() => undefined);
        const { azure, ids, make } = await newTeam({
            infrastructure: { ...noInfrastructure, startCluster: never },
        });
        make.cluster().catch(() => undefined);
        // Whoever saves it has no model yet while that is made.
        const onChange = () => {
            throw new Error("there is nothing to save yet");
        };
        const next = new Azure({ infrastructure: noInfrastructure, state: azure.toJSON(), onChange });
        expect(next.resources().filter(({ id }) => /web/.test(id))).toEqual([]);
        expect(next.resource(ids.group)).toBeDefined();
    });

    test("is announced after each change", async () => {
        let changes = 0;
        const { azure, make } = await newTeam({ onChange: () => changes++ });
        const steps = [
            () => make.registry(),
            () =>
                make.grant(
                    azure.list("Microsoft.ContainerRegistry/registries")[0]?.id ?? "",
                    nextGuid(),
                    roles.acrPull,
                ),
            () => azure.configure({ latency: 0 }),
            () => azure.signIn("reader@example.com"),
        ];
        for (const step of steps) {
            const before = changes;
            await step();
            expect(changes).toBeGreaterThan(before);
        }
    });
});

test("guids are always the same for the same words", () => {
    expect(guid("tenant")).toBe(guid("tenant"));
    expect(guid("tenant")).toMatch(/^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-a[\da-f]{3}-[\da-f]{12}$/);
});
