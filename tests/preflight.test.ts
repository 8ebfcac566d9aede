import * as pulumi from "@pulumi/pulumi";
import { preflight } from "../preflight";
import type { Properties } from "../sandbox/azure/model";
import { checkSettings } from "../settings";
import { existingTeam, mockedStack } from "./components/stack";

let dockerRuns = true;
jest.mock("../requirements.cjs", () => ({
    ...jest.requireActual("../requirements.cjs"),
    dockerAnswers: async () => dockerRuns,
}));

const digest = `sha256:${"0123456789abcdef".repeat(4)}`;
const upstream = {
    "nginx:1.29": { digest, architectures: ["amd64", "arm64"] },
    "nginx:1.29-arm": { digest, architectures: ["arm64"] },
};
const warned: string[] = [];
jest.spyOn(pulumi.log, "warn").mockImplementation(async (message) => void warned.push(message));
const fetchMock = jest.spyOn(globalThis, "fetch");

/** A registry that has `nginx` at the digest, for these architectures. */
function serving(...architectures: string[]) {
    const manifests = architectures.map((architecture) => ({ platform: { architecture } }));
    fetchMock.mockImplementation(async (url) => {
        const path = String(url);
        if (path.endsWith(`/v2/nginx/manifests/${digest}`)) return Response.json({ manifests });
        if (path.includes("/v2/")) return new Response(null, { status: 404 });
        return Response.json({ refresh_token: "refresh", access_token: "access" });
    });
}

beforeEach(() => {
    dockerRuns = true;
    warned.splice(0);
    fetchMock.mockReset();
    serving("amd64");
});

type Scene = Awaited<ReturnType<typeof scene>>;

/** A team with a cluster and a registry, signed in as the Owner, in a preview. */
async function scene(bodies: { cluster?: Properties; registry?: Properties } = {}) {
    const mocks = await mockedStack({ upstream }, { preview: true });
    const team = await existingTeam(mocks, bodies);
    const { azure } = mocks;
    const second = azure.subscriptions[1]?.id ?? "";
    return { ...team, mocks, azure, second, subscription: azure.subscriptionId };
}

const plan = (values: Record<string, unknown>) => preflight(checkSettings(values, "dev"));

async function problemsOf(values: Record<string, unknown>): Promise<string[]> {
    const refusal = await plan(values).then(
        () => "",
        (error: Error) => error.message,
    );
    return [...refusal.matchAll(/^ {2}- (.*)$/gm)].map((match) => match[1] ?? "");
}

const both = { resourceGroup: "team", registry: { name: "teamimages" }, cluster: { name: "web" } };

describe("the preflight", () => {
    it("reads each adopted thing once, and knows all of it", async () => {
        const { mocks, registryId, clusterId, kubeletPrincipalId } = await scene();
        const call = jest.spyOn(mocks, "call");
        const found = await plan({ ...both, image: { ref: `nginx@${digest}` } });
        expect(found.registry).toEqual({
            existing: { registryId, registryName: "teamimages", loginServer: "teamimages.azurecr.io" },
        });
        expect(found.cluster).toMatchObject({
            existing: { clusterId, clusterName: "web", resourceGroupName: "team", kubeletPrincipalId },
        });
        const tokens = call.mock.calls.map(([{ token }]) => token.split(":").at(-1));
        expect(tokens.sort()).toEqual([
            "getClientConfig",
            "getClientToken",
            "getManagedCluster",
            "getRegistry",
            "listManagedClusterUserCredentials",
        ]);
    });

    it("finds the same by id", async () => {
        const { registryId, clusterId } = await scene();
        const byName = await plan(both);
        const byId = await plan({ registry: { id: registryId }, cluster: { id: clusterId } });
        const { kubeconfig: _, ...cluster } = (byId.cluster as Properties).existing;
        expect(byId.registry).toEqual(byName.registry);
        expect(byName.cluster).toMatchObject({ existing: cluster });
        expect(byId.resourceGroup).toBe("team");
    });

    it("reaches another subscription through a provider of its own", async () => {
        const { azure, second, mocks } = await scene();
        const group = `/subscriptions/${second}/resourceGroups/shared`;
        const id = `${group}/providers/Microsoft.ContainerRegistry/registries/sharedimages`;
        await azure.put(group, { location: "westeurope" });
        await azure.put(id, { location: "westeurope", sku: { name: "Basic" } });
        expect((await plan({ registry: { id } })).registry).toMatchObject({ existing: { registryId: id } });
        const [provider] = mocks.of("pulumi:providers:azure-native");
        expect(provider?.inputs.subscriptionId).toBe(second);
    });

    it("lets a service principal's cluster be told its object id", async () => {
        await scene({ cluster: servicePrincipalCluster });
        const kubeletPrincipalId = "5b0d4a5e-1111-4222-8333-944445555666";
        const found = await plan({ ...both, cluster: { name: "web", kubeletPrincipalId } });
        expect(found.cluster).toMatchObject({ existing: { kubeletPrincipalId } });
    });

    it("waits for no pods that need somebody else's command", async () => {
        await scene();
        expect((await plan({ ...both, roleAssignments: "external" })).workload.waitSeconds).toBe(0);
        expect((await plan(both)).workload.waitSeconds).toBeUndefined();
        const workload = { waitSeconds: 30 };
        expect((await plan({ ...both, roleAssignments: "external", workload })).workload.waitSeconds).toBe(
            30,
        );
    });

    it("builds for the cluster's nodes, and binds pods to them where there are others", async () => {
        await scene({ cluster: { agentPoolProfiles: [pool("Standard_D4ps_v6")] } });
        expect(await plan(both)).toMatchObject({
            image: { platform: "linux/arm64" },
            workload: { architecture: undefined },
        });
        await scene({
            cluster: { agentPoolProfiles: [pool("Standard_D4s_v5"), pool("Standard_D4ps_v6", "arm")] },
        });
        expect(await plan(both)).toMatchObject({
            image: { platform: "linux/amd64" },
            workload: { architecture: "amd64" },
        });
    });

    it("imports a tag as it is named, or by the digest that it has now where it is followed", async () => {
        await scene();
        expect((await plan({ ...both, image: { import: "nginx:1.29" } })).image).toMatchObject({
            import: "nginx:1.29",
        });
        expect((await plan({ ...both, image: { import: "nginx:1.29", follow: true } })).image).toMatchObject({
            import: `nginx@${digest}`,
        });
    });

    it("promotes by digest what another stack runs: out of the same registry, or copied from its own", async () => {
        const { mocks } = await scene();
        runs(mocks, `teamimages.azurecr.io/nginx@${digest}`);
        const same = await plan({ ...both, image: { promote: "staging" } });
        expect(same.image).toEqual({ ref: `nginx@${digest}`, permissions: "rbac" });
        expect(same.promoted).toEqual({
            from: "staging",
            image: `teamimages.azurecr.io/nginx@${digest}`,
            digest,
        });
        runs(mocks, `others.azurecr.io/nginx@${digest}`);
        expect((await plan({ ...both, image: { promote: "staging" } })).image).toEqual({
            copy: `others.azurecr.io/nginx@${digest}`,
            tag: "v1",
            permissions: "rbac",
        });
    });

    it("goes on without what the caller may not see of an image", async () => {
        await scene();
        fetchMock.mockResolvedValue(new Response(null, { status: 401 }));
        expect((await plan({ ...both, image: { ref: `nginx@${digest}` } })).image).toMatchObject({
            ref: `nginx@${digest}`,
        });
        expect(warned[0]).toMatch(/^aks-acr:image\.ref was not checked: /);
    });

    it("needs no docker for an image that is there already", async () => {
        await scene();
        dockerRuns = false;
        expect(await problemsOf({ ...both, image: { ref: `nginx@${digest}` } })).toEqual([]);
    });

    it("says what the doctor says where nobody is signed in to Azure", async () => {
        const { mocks } = await scene();
        jest.spyOn(mocks, "call").mockRejectedValue(
            Object.assign(new Error(), { details: "no credentials" }),
        );
        const { advice } = jest.requireActual("../requirements.cjs");
        await expect(plan({})).rejects.toThrow(advice.azure);
    });

    it("refuses everything at once", async () => {
        await scene();
        dockerRuns = false;
        const problems = await problemsOf({
            resourceGroup: "team",
            registry: { name: "others" },
            cluster: { name: "other" },
        });
        expect(problems.map((problem) => problem.split(" ")[0])).toEqual([
            "The",
            "aks-acr:cluster.name",
            "aks-acr:registry.name",
        ]);
    });
});

const pool = (vmSize: string, name = "system") => ({ name, mode: "System", count: 1, vmSize });
const appId = "99999999-1111-4222-8333-444444444444";
const servicePrincipalCluster = { identity: undefined, servicePrincipalProfile: { clientId: appId } };
const sub = (shape: Scene) => shape.subscription;

describe("the preflight refuses", () => {
    type Case = [
        what: string,
        values: (team: Scene) => Record<string, unknown>,
        problem: (team: Scene) => string,
        prepare?: { cluster?: Properties; registry?: Properties; prepare?: (team: Scene) => unknown },
    ];
    const cases: Case[] = [
        [
            "a registry that is not in the group",
            () => ({ ...both, registry: { name: "others" } }),
            (team) =>
                `aks-acr:registry.name is "others", but there is no registry others in the resource group team; \`az acr list --subscription ${sub(team)} --output table\` shows what there is; or set aks-acr:registry.create to make one`,
        ],
        [
            "a registry in a group that does not exist",
            () => ({ ...both, registry: { name: "teamimages", resourceGroup: "shared" } }),
            (team) =>
                `aks-acr:registry.name is "teamimages", but there is no resource group shared in the subscription ${sub(team)}; \`az acr list --subscription ${sub(team)} --output table\` shows what there is; or set aks-acr:registry.create to make one`,
        ],
        [
            "a cluster that is not in the group",
            () => ({ ...both, cluster: { name: "other" } }),
            (team) =>
                `aks-acr:cluster.name is "other", but there is no cluster other in the resource group team; \`az aks list --subscription ${sub(team)} --output table\` shows what there is; or set aks-acr:cluster.create to make one`,
        ],
        [
            "a cluster by an id that leads nowhere",
            (team) => ({ ...both, cluster: { id: team.clusterId.replace(/web$/, "gone") } }),
            (team) =>
                `aks-acr:cluster.id is "${team.clusterId.replace(/web$/, "gone")}", but there is no cluster gone in the resource group team; \`az aks list --subscription ${sub(team)} --output table\` shows what there is; or set aks-acr:cluster.create to make one`,
        ],
        [
            "a resource group that does not exist",
            () => ({ resourceGroup: "nowhere" }),
            (team) =>
                `aks-acr:resourceGroup is "nowhere", but there is no resource group nowhere in the subscription ${sub(team)}; \`az group list --subscription ${sub(team)} --output table\` shows what there is, or remove the key to have one made`,
        ],
        [
            "a subscription that the caller does not see",
            (team) => ({
                ...both,
                registry: { id: elsewhere(team, "12345678-1111-4222-8333-444444444444") },
            }),
            (team) =>
                `aks-acr:registry.id is "${elsewhere(team, "12345678-1111-4222-8333-444444444444")}", but your login does not see the subscription 12345678-1111-4222-8333-444444444444; \`az account list --output table\` shows those it sees`,
        ],
        [
            "a registry of another tenant",
            (team) => ({ ...both, registry: { id: elsewhere(team, foreign(team).subscription) } }),
            (team) =>
                `aks-acr:registry.id is "${elsewhere(team, foreign(team).subscription)}", which is in another tenant (${foreign(team).tenant}) than your login (${team.azure.tenantId}); roles reach no further than a tenant: use a registry of yours, or run \`az login --tenant ${foreign(team).tenant}\``,
        ],
        [
            "a further registry that does not exist",
            (team) => ({ ...both, extraPullFrom: [team.registryId.replace("teamimages", "others")] }),
            (team) =>
                `aks-acr:extraPullFrom[0] is "${team.registryId.replace("teamimages", "others")}", but there is no registry others in the resource group team; \`az acr list --subscription ${sub(team)} --output table\` shows what there is; or set aks-acr:registry.create to make one`,
        ],
        [
            "a stopped cluster",
            () => both,
            () =>
                'aks-acr:cluster.name is "web", which is stopped; run `az aks start --name web --resource-group team`',
            { prepare: ({ azure, clusterId }) => azure.setPower(clusterId, "Stopped") },
        ],
        [
            "a cluster with a service principal whose object id nobody said",
            () => both,
            () =>
                `aks-acr:cluster.kubeletPrincipalId is missing: the cluster web has a service principal instead of a kubelet identity; set it to the object id of that, \`az ad sp show --id ${appId} --query id --output tsv\` prints it`,
            { cluster: servicePrincipalCluster },
        ],
        [
            "a service principal's application id for its object id",
            () => ({ ...both, cluster: { name: "web", kubeletPrincipalId: appId } }),
            () =>
                `aks-acr:cluster.kubeletPrincipalId is "${appId}", which is the service principal's application id; use its object id, \`az ad sp show --id ${appId} --query id --output tsv\` prints it`,
            { cluster: servicePrincipalCluster },
        ],
        [
            "an object id that is not the kubelet identity's",
            () => ({ ...both, cluster: { name: "web", kubeletPrincipalId: appId } }),
            (team) =>
                `aks-acr:cluster.kubeletPrincipalId is "${appId}", but the kubelet identity of the cluster web is ${team.kubeletPrincipalId}; remove the key`,
        ],
        [
            "a cluster that nobody can log in to",
            () => both,
            () =>
                'aks-acr:cluster.name is "web", which has local accounts disabled but no Microsoft Entra, so nobody can log in; run `az aks update --name web --resource-group team --enable-aad`',
            { cluster: { disableLocalAccounts: true } },
        ],
        [
            "a caller who may not get credentials",
            () => both,
            (team) =>
                `aks-acr:cluster.name is "web", but you lack the permission Microsoft.ContainerService/managedClusters/listClusterUserCredential/action on it; an Owner can run: az role assignment create --assignee ${team.azure.principal("reader@example.com").objectId} --role "Azure Kubernetes Service Cluster User Role" --scope ${team.clusterId}`,
            { prepare: ({ azure }) => azure.signIn("reader@example.com") },
        ],
        [
            "a caller who may not read the registry",
            () => ({ registry: { name: "teamimages", resourceGroup: "team" } }),
            (team) =>
                `aks-acr:registry.name is "teamimages", but you lack the permission Microsoft.ContainerRegistry/registries/read on it; an Owner can run: az role assignment create --assignee ${stranger} --role "Reader" --scope ${team.registryId}`,
            { prepare: strangerSignsIn },
        ],
        [
            "a cluster without Linux nodes for pods",
            () => both,
            () =>
                'aks-acr:cluster.name is "web", which has no Linux nodes that take pods; add some with `az aks nodepool add --cluster-name web --resource-group team --name user`',
            {
                cluster: {
                    agentPoolProfiles: [
                        { ...pool("Standard_D4s_v5"), nodeTaints: ["CriticalAddonsOnly=true:NoSchedule"] },
                    ],
                },
            },
        ],
        [
            "an image built for other nodes than the cluster has",
            () => ({ ...both, image: { build: { platform: "linux/arm64" } } }),
            () =>
                'aks-acr:image.build.platform is "linux/arm64", which is for other nodes, but the cluster\'s nodes are amd64; use an image for those, or add a node pool that fits',
        ],
        [
            "an image built for other nodes than the new cluster will have",
            () => ({ image: { build: { platform: "linux/arm64" } } }),
            () =>
                'aks-acr:image.build.platform is "linux/arm64", which is for other nodes, but the cluster\'s nodes are amd64; use an image for those, or add a node pool that fits',
        ],
        [
            "an upstream image that is not there for the nodes",
            () => ({ ...both, image: { import: "nginx:1.29-arm" } }),
            () =>
                'aks-acr:image.import is "nginx:1.29-arm", which is there for arm64 only, but the cluster\'s nodes are amd64; use an image for those, or add a node pool that fits',
        ],
        [
            "an upstream image that is not there at all",
            () => ({ ...both, image: { import: "nginx:9.99" } }),
            () =>
                'aks-acr:image.import is "nginx:9.99", which its registry does not have; name a tag or digest that is there',
        ],
        [
            "a digest that the registry does not have",
            () => ({ ...both, image: { ref: `apache@${digest}` } }),
            () =>
                `aks-acr:image.ref is "apache@${digest}", which the registry teamimages does not have; \`az acr manifest list-metadata --registry teamimages --name apache\` shows what it has`,
        ],
        [
            "a digest for other nodes",
            () => ({ ...both, image: { ref: `nginx@${digest}` } }),
            () =>
                `aks-acr:image.ref is "nginx@${digest}", which is there for amd64 only, but the cluster's nodes are arm64; use an image for those, or add a node pool that fits`,
            { cluster: { agentPoolProfiles: [pool("Standard_D4ps_v6")] } },
        ],
        [
            "promoting from a stack that runs nothing",
            () => ({ ...both, image: { promote: "staging" } }),
            () =>
                'aks-acr:image.promote is "staging", which runs no image yet; run `pulumi up --stack staging` first',
            { prepare: ({ mocks }) => runs(mocks, undefined) },
        ],
        [
            "promoting from a stack that is not there",
            () => ({ ...both, image: { promote: "stagin" } }),
            () =>
                'aks-acr:image.promote is "stagin", a stack that is not there; `pulumi stack ls` lists those that are',
            { prepare: ({ mocks }) => runs(mocks, new Error('unknown stack "organization/aks-acr/stagin"')) },
        ],
        [
            "promoting from a stack that the backend does not give",
            () => ({ ...both, image: { promote: "staging" } }),
            () => 'aks-acr:image.promote is "staging", of which Pulumi says: blob (code=PermissionDenied)',
            { prepare: ({ mocks }) => runs(mocks, new Error("blob (code=PermissionDenied)")) },
        ],
        [
            "promoting a digest that is gone",
            () => ({ ...both, image: { promote: "staging" } }),
            () =>
                `aks-acr:image.promote is "staging", which the registry others.azurecr.io does not have (apache@${digest}); \`az acr manifest list-metadata --registry others.azurecr.io --name apache\` shows what it has`,
            { prepare: ({ mocks }) => runs(mocks, `others.azurecr.io/apache@${digest}`) },
        ],
        [
            "an image to push where docker does not run",
            () => both,
            () => jest.requireActual("../requirements.cjs").advice.docker,
            {
                prepare: () => {
                    dockerRuns = false;
                },
            },
        ],
    ];

    it.each(cases)("%s", async (_, values, problem, { prepare, ...bodies } = {}) => {
        const team = await scene(bodies);
        await prepare?.(team);
        const touched = team.mocks.resources.length;
        expect(await problemsOf(values(team))).toEqual([problem(team)]);
        const made = team.mocks.resources.slice(touched).map(({ type }) => type);
        // Only in the state, to look up what is in another subscription.
        expect(made.filter((type) => type !== "pulumi:providers:azure-native")).toEqual([]);
    });
});

/** Lets every other stack run this image; undefined for none, an error for what the engine answers instead. */
function runs(mocks: Scene["mocks"], image: string | Error | undefined) {
    const call = mocks.call.bind(mocks);
    mocks.call = async (args) => {
        if (args.token !== "pulumi:pulumi:readStackOutputs") return call(args);
        if (image instanceof Error) throw Object.assign(image, { details: image.message });
        return { name: args.inputs.name, outputs: { image }, secretOutputNames: [] };
    };
}

const stranger = "77777777-1111-4222-8333-444444444444";

function strangerSignsIn({ azure }: Scene) {
    azure.addPrincipal({ objectId: stranger, name: "stranger@example.com", type: "User" });
    azure.signIn("stranger@example.com");
}

/** A subscription of another tenant, and that. */
function foreign({ azure }: Scene) {
    const found = azure.subscriptions.find(({ tenantId }) => tenantId !== azure.tenantId);
    return { subscription: found?.id ?? "", tenant: found?.tenantId ?? "" };
}

/** The registry's id, were it in another subscription. */
function elsewhere(team: Scene, subscription: string): string {
    return team.registryId.replace(team.subscription, subscription);
}
