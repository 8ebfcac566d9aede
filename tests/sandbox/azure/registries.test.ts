import * as fc from "fast-check";
import { newTeam, nextGuid, refusalOf, roles } from "./fixture";

describe("a registry", () => {
    test("has the login server that its process listens on, and Azure's defaults", async () => {
        const { make } = await newTeam();
        expect(await make.registry()).toMatchObject({
            loginServer: "teamregistry.azurecr.io",
            sku: { name: "Basic", tier: "Basic" },
            adminUserEnabled: false,
            publicNetworkAccess: "Enabled",
            provisioningState: "Succeeded",
            creationDate: "2026-11-23T12:00:00.000Z",
            location: "westeurope",
        });
    });

    test.each(["in another resource group", "elsewhere in the world"])(
        "is refused under a name taken %s",
        async (where) => {
            const { azure, ids, make } = await newTeam();
            if (where === "elsewhere in the world") azure.configure({ namesTaken: ["TeamRegistry"] });
            else {
                const other = ids.group.replace("team", "other");
                await azure.put(other, { location: "westeurope" });
                await azure.put(ids.registry.replace(ids.group, other), {
                    location: "westeurope",
                    sku: { name: "Basic" },
                });
            }
            expect(await refusalOf(make.registry())).toMatchObject({
                status: 409,
                code: "AlreadyInUse",
                message: "The registry DNS name teamregistry.azurecr.io is already in use.",
            });
        },
    );

    test("can be changed under its own name", async () => {
        const { make } = await newTeam();
        await make.registry();
        expect(await make.registry({ adminUserEnabled: true })).toMatchObject({ adminUserEnabled: true });
    });

    test("takes its name while it is being created", async () => {
        const { make, ids, azure } = await newTeam();
        const other = ids.group.replace("team", "other");
        await azure.put(other, { location: "westeurope" });
        const first = make.registry();
        const body = { location: "westeurope", sku: { name: "Basic" } };
        const refusal = await refusalOf(azure.put(ids.registry.replace(ids.group, other), body));
        expect(refusal.code).toBe("AlreadyInUse");
        await first;
    });

    test("of the Basic tier allows no anonymous pull", async () => {
        const { make } = await newTeam();
        expect(await refusalOf(make.registry({ anonymousPullEnabled: true }))).toMatchObject({
            status: 400,
            code: "BadRequest",
            message:
                "Anonymous pull is not supported for SKU Managed_Basic. For more information on SKU tiers, please visit https://aka.ms/acr/tiers.",
        });
        await make.registry({ anonymousPullEnabled: true, sku: { name: "Standard" } });
    });

    test("is not there after its process could not start, and can be created again", async () => {
        let starts = 0;
        const infrastructure = {
            startRegistry: async () => {
                if (++starts === 1) throw new Error("no port is free");
                return { loginServer: "127.0.0.1:5000" };
            },
            stopRegistry: async () => undefined,
            startCluster: async () => ({ kubeconfig: "", fqdn: "" }),
            stopCluster: async () => undefined,
        };
        const { azure, ids, make } = await newTeam({ infrastructure });
        await expect(make.registry()).rejects.toThrow("no port is free");
        expect(azure.resource(ids.registry)).toBeUndefined();
        expect(await make.registry()).toMatchObject({ loginServer: "127.0.0.1:5000" });
    });

    test("takes the role assignments on it along when it is deleted, and no other", async () => {
        const { azure, ids, make } = await newTeam();
        await make.registry();
        const own = await make.grant(ids.registry, nextGuid(), roles.acrPull);
        const above = await make.grant(ids.group, nextGuid(), roles.acrPull);
        await azure.delete(ids.registry);
        expect(azure.resource(own.id)).toBeUndefined();
        expect(azure.resource(above.id)).toBeDefined();
    });
});

describe("a registry's name", () => {
    const named = async (name: string) => {
        const { azure, ids } = await newTeam();
        const id = `${ids.group}/providers/Microsoft.ContainerRegistry/registries/${name}`;
        return azure.put(id, { location: "westeurope", sku: { name: "Basic" } });
    };

    test("may be any 5 to 50 letters and digits", async () => {
        const names = fc.stringMatching(/^[a-zA-Z0-9]{5,50}$/);
        await fc.assert(fc.asyncProperty(names, async (name) => (await named(name)).name === name));
    });

    test("may have no other character and no other length", async () => {
        const names = fc
            .string({ unit: fc.constantFrom(..."ab01-_. "), minLength: 1, maxLength: 60 })
            .filter((name) => !/^[a-z0-9]{5,50}$/.test(name));
        await fc.assert(
            fc.asyncProperty(
                names,
                async (name) => (await refusalOf(named(name))).code === "InvalidResourceName",
            ),
        );
    });
});
