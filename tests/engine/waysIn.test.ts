import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { dump, load } from "js-yaml";
import { connect } from "../../sandbox/kubernetes/client";
import { podsOf } from "../../sandbox/result";
import {
    azure,
    changes,
    edit,
    eventually,
    inHome,
    type Outputs,
    ownPage,
    sandbox,
    startOver,
    succeed,
} from "./sandbox";

const { advice } = require("../../requirements.cjs") as typeof import("../../requirements.cjs");

// Every way in: what a team has already, and people who may not assign roles. Scenes are set by the Azure CLI's words, stacks
// are brought up as a person does it; several share the clusters, each in a namespace of its own.
jest.setTimeout(20 * 60_000);

type Config = Record<string, unknown>;

/** A stack of this name, in a namespace of that name, with this configuration. */
async function stack(name: string, config: Config): Promise<void> {
    await succeed("run", "stack", "init", name);
    configure(name, config);
}

/** Sets the whole configuration of a stack, as if somebody had edited its file. */
function configure(name: string, config: Config): void {
    const file = inHome("project", `Pulumi.${name}.yaml`);
    const { config: _, ...kept } = load(readFileSync(file, "utf8")) as Config;
    const workload = { "aks-acr:workload": { namespace: name, ...(config["aks-acr:workload"] as object) } };
    const all = { "azure-native:location": "westeurope", ...config, ...workload };
    writeFileSync(file, dump({ ...kept, config: all }));
}

const up = (name: string) => sandbox("run", "up", "--yes", "--skip-preview", "--stack", name);
const preview = (name: string) => succeed("run", "preview", "--stack", name);
const destroy = (name: string) => succeed("run", "destroy", "--yes", "--skip-preview", "--stack", name);

async function upped(name: string): Promise<string> {
    const { code, output } = await up(name);
    if (code !== 0) throw new Error(`up of ${name} ended with exit code ${code}:\n${output}`);
    return output;
}

async function outputsOf(name: string): Promise<Outputs & { pullAccess: { command?: string } }> {
    const command = ["stack", "output", "--json", "--show-secrets", "--stack", name];
    return JSON.parse(await succeed("run", ...command));
}

// A kubeconfig for Microsoft Entra runs kubelogin, the sandbox's here.
process.env.PATH = `${inHome("bin")}:${process.env.PATH}`;

/** Resolves once the stack's pods are Running and Ready, from the digest that its outputs name. */
async function running(name: string, seconds = 30): Promise<void> {
    const { kubeconfig, namespace, imageDigest } = await outputsOf(name);
    const client = connect(kubeconfig);
    const expected = ["Running", true, imageDigest];
    const ready = async () => {
        const pods = (await podsOf(client, namespace)).map(({ phase, ready, digest }) => [
            phase,
            ready,
            digest,
        ]);
        return pods.length === 2 && pods.every((pod) => String(pod) === String(expected)) ? pods : undefined;
    };
    expect(await eventually(ready, seconds, `two ready pods of ${name}`)).toEqual([expected, expected]);
}

/** Problems of a run that was refused, each with its key. */
function problems(output: string): string[] {
    return [...new Set([...output.matchAll(/^ +- (.*)$/gm)].map((match) => match[1] ?? ""))];
}

/** Runs a command as the program prints it: `az ...`. */
const az = (command: string) =>
    succeed(
        "azure",
        ...(command.match(/"[^"]*"|\S+/g) ?? []).slice(1).map((word) => word.replaceAll('"', "")),
    );

const signIn = (who: string) => az(`az login --username ${who}@example.com`);

interface Named {
    id: string;
    name: string;
}

/** The registry's and cluster's ids. */
const ids: Record<string, string> = {};

async function made(command: string): Promise<Named> {
    const { id, name } = JSON.parse(await az(command)) as Named;
    ids[name] = id;
    return { id, name };
}

const team = { "aks-acr:resourceGroup": "team" };
const web = { "aks-acr:cluster": { name: "web" } };
const teamimages = { "aks-acr:registry": { name: "teamimages" } };
const adopted = { ...team, ...web, ...teamimages };
const imported = { "aks-acr:image": { import: "nginx:1.29" } };

beforeAll(async () => {
    await startOver();
    await az("az group create --name team --location westeurope");
    await Promise.all([
        made("az acr create --name teamimages --resource-group team"),
        made("az aks create --name web --resource-group team"),
    ]);
});

afterAll(async () => {
    await sandbox("stop");
});

describe("an existing cluster and registry", () => {
    it("by name get the permission, the image and the workload, and nothing else", async () => {
        await stack("adopted", adopted);
        const before = await azure("resource", "list");
        const output = await upped("adopted");
        expect(changes(output)).toEqual([
            "azure-native:authorization:RoleAssignment acr-pull created",
            "docker:index:Image nginx-image created",
            "kubernetes:apps/v1:Deployment nginx created",
            "kubernetes:core/v1:Namespace nginx created",
            "kubernetes:core/v1:Service nginx created",
            "kubernetes:policy/v1:PodDisruptionBudget nginx created",
            "pulumi:providers:kubernetes cluster created",
        ]);
        await running("adopted");
        expect(await azure("resource", "list")).toEqual(before);
        expect(await outputsOf("adopted")).toMatchObject({
            resourceGroupName: "team",
            clusterId: ids.web,
            registryId: ids.teamimages,
            pullAccess: { scope: ids.teamimages, state: "assigned" },
        });
    });

    it("are the same by id: the preview shows no change", async () => {
        configure("adopted", {
            "aks-acr:cluster": { id: ids.web },
            "aks-acr:registry": { id: ids.teamimages },
        });
        expect(await preview("adopted")).toMatch(/Resources:\n +13 unchanged/);
    });

    it("take an image that is there already, with every value known at the first preview and no docker", async () => {
        const { image, imageDigest } = await outputsOf("adopted");
        const ref = `nginx@${imageDigest}`;
        await stack("known", {
            ...adopted,
            "docker:host": "unix:///nowhere/docker.sock",
            "aks-acr:image": { ref },
        });
        // The same cluster may pull from the same registry already.
        configure("known", {
            ...adopted,
            "docker:host": "unix:///nowhere/docker.sock",
            "aks-acr:image": { ref },
            "aks-acr:roleAssignments": "external",
        });
        const shown = await preview("known");
        expect(shown).toContain(image);
        expect(shown.slice(shown.indexOf("Outputs:"))).not.toContain("unknown");
        expect(changes(await upped("known"))).not.toContain("docker:index:Image nginx-image created");
        await running("known");
    });

    it("say what to do where another stack made the grant", async () => {
        const { imageDigest } = await outputsOf("adopted");
        await stack("second", { ...adopted, "aks-acr:image": { ref: `nginx@${imageDigest}` } });
        const { code, output } = await up("second");
        expect(code).not.toBe(0);
        expect(output).toMatch(
            /This permission was already granted by hand or by another stack \(role assignment .*\)\. Leave it as it is with `pulumi config set aks-acr:roleAssignments external`/,
        );
        configure("second", {
            ...adopted,
            "aks-acr:image": { ref: `nginx@${imageDigest}` },
            "aks-acr:roleAssignments": "external",
        });
        await upped("second");
        await running("second");
        await destroy("second");
    });

    it("are there as they were after destroy", async () => {
        const before = await azure("resource", "list");
        await destroy("known");
        await destroy("adopted");
        expect(await azure("resource", "list")).toEqual(before);
        expect(
            (await azure("aks", "show", "--name", "web", "--resource-group", "team")).powerState.code,
        ).toBe("Running");
    });

    it("may be in another subscription", async () => {
        await az("az group create --name shared --location westeurope --subscription second");
        const { id } = await made(
            "az acr create --name sharedimages --resource-group shared --subscription second --dnl-scope TenantReuse",
        );
        await stack("elsewhere", { ...team, ...web, "aks-acr:registry": { id } });
        await upped("elsewhere");
        await running("elsewhere");
        expect((await outputsOf("elsewhere")).pullAccess.scope).toBe(id);
        await destroy("elsewhere");
    });
});

describe("an imported image", () => {
    it("is upstream's, under a digest of the team's registry, and stays as it is", async () => {
        await stack("imported", { ...adopted, ...imported });
        await upped("imported");
        await running("imported");
        const { image, loginServer } = await outputsOf("imported");
        expect(image).toMatch(new RegExp(`^${loginServer}/nginx@sha256:[\\da-f]{64}$`));
        expect(await upped("imported")).toMatch(/Resources:\n +13 unchanged/);
    });

    it("is followed when its tag moves upstream, only when asked to", async () => {
        const page = ownPage();
        await stack("upstream", { ...adopted, "aks-acr:roleAssignments": "external" });
        await upped("upstream");
        const { loginServer, imageDigest: first } = await outputsOf("upstream");
        const source = { import: `${loginServer}/nginx:v1`, repository: "copy" };
        await az("az acr login --name teamimages");
        configure("imported", { ...adopted, "aks-acr:image": source });
        expect(changes(await upped("imported"))).toEqual([
            "docker:index:Image nginx-image updated",
            "kubernetes:apps/v1:Deployment nginx updated",
        ]);
        await running("imported");
        edit(page, "Hello from AKS", "Hello, moved");
        await upped("upstream");
        const { imageDigest: second } = await outputsOf("upstream");
        expect(second).not.toBe(first);
        expect(await preview("imported")).toMatch(/Resources:\n +13 unchanged/);
        configure("imported", { ...adopted, "aks-acr:image": { ...source, follow: true } });
        expect(await preview("imported")).toMatch(/docker:index:Image nginx-image update/);
        await upped("imported");
        expect(await upped("imported")).toMatch(/Resources:\n +13 unchanged/);
        configure("imported", {
            ...adopted,
            "aks-acr:image": { ...source, import: `${loginServer}/nginx@${second}` },
        });
        expect(await preview("imported")).not.toMatch(
            /docker:index:Image nginx-image (create|replace|delete)/,
        );
        await destroy("upstream");
    });

    it("can be pushed as docker is logged in, which must be so", async () => {
        const login = { import: "nginx:1.29", login: "docker" };
        configure("imported", { ...adopted, "aks-acr:image": login });
        await upped("imported");
        await running("imported");
        rmSync(inHome("docker-config", "config.json"));
        configure("imported", { ...adopted, "aks-acr:image": { ...login, tag: "v2" } });
        const { code, output } = await up("imported");
        expect(code).not.toBe(0);
        expect(output).toContain(
            "Docker is not logged in there: run `az acr login --name <registry>`, or remove aks-acr:image.login to push by your Azure login.",
        );
        await destroy("imported");
    });
});

describe("somebody who may not assign roles", () => {
    it("is told so within seconds, with who can, the command, and the key that does without", async () => {
        await signIn("contributor");
        await stack("refused", adopted);
        const { code, output, seconds } = await up("refused");
        expect(code).not.toBe(0);
        expect(seconds).toBeLessThan(30);
        expect(output).toContain(
            'az role assignment create --role "Role Based Access Control Administrator" --assignee',
        );
        expect(output).toContain(
            "`pulumi config set aks-acr:roleAssignments external` makes everything else",
        );
        await destroy("refused");
    });

    it("makes everything else, and pods start by themselves once an Owner has run the command", async () => {
        await stack("external", { "aks-acr:roleAssignments": "external" });
        await upped("external");
        const { pullAccess, kubeconfig, namespace } = await outputsOf("external");
        expect(pullAccess.state).toBe("external");
        const { items } = await connect(kubeconfig).call("GET", `/api/v1/namespaces/${namespace}/pods`);
        expect(items.filter((pod: any) => pod.status.phase === "Running")).toEqual([]);
        await az(pullAccess.command ?? "");
        await running("external", 90);
        expect(await upped("external")).toMatch(/Resources:\n +\d+ unchanged\n/);
        await destroy("external");
        await signIn("owner");
    });

    it("may be one who may assign these roles only", async () => {
        await signIn("role-administrator");
        await stack("delegated", { ...adopted, ...imported });
        await upped("delegated");
        await running("delegated");
        await destroy("delegated");
        await signIn("owner");
    });
});

describe("a cluster with a service principal", () => {
    it("asks for its object id, with the command that prints it, and pulls with it", async () => {
        const { appId, id: objectId } = JSON.parse(await az("az ad sp create-for-rbac --name cluster"));
        await made(`az aks create --name legacy --resource-group team --service-principal ${appId}`);
        const legacy = { ...team, ...teamimages, ...imported };
        await stack("legacy", { ...legacy, "aks-acr:cluster": { name: "legacy" } });
        expect(problems((await up("legacy")).output)).toEqual([
            "aks-acr:cluster.kubeletPrincipalId is missing: the cluster legacy has a service principal instead of a kubelet " +
                `identity; set it to the object id of that, \`az ad sp show --id ${appId} --query id --output tsv\` prints it`,
        ]);
        configure("legacy", {
            ...legacy,
            "aks-acr:cluster": { name: "legacy", kubeletPrincipalId: objectId },
        });
        await upped("legacy");
        await running("legacy");
        await destroy("legacy");
        await az("az aks delete --name legacy --resource-group team --yes");
    });
});

describe("a cluster with local accounts disabled", () => {
    it("is logged in to by the caller's Azure login, and asks nobody for a device code", async () => {
        const groups = await azure("ad", "group", "list");
        const admins = groups.find((group: any) => group.displayName === "platform-admins").id;
        await made(
            `az aks create --name locked --resource-group team --enable-aad --aad-admin-group-object-ids ${admins} --disable-local-accounts`,
        );
        // Several clusters may pull from one registry.
        await stack("locked", { ...team, ...teamimages, ...imported, "aks-acr:cluster": { name: "locked" } });
        await upped("locked");
        await running("locked");
        const { kubeconfig } = await outputsOf("locked");
        expect(kubeconfig).toContain("kubelogin");
        expect(kubeconfig).toContain("azurecli");
        expect(kubeconfig).not.toMatch(/devicecode|client-key-data|token: /);
        await destroy("locked");
        await az("az aks delete --name locked --resource-group team --yes");
    });
});

describe("a registry in ABAC mode", () => {
    const abacimages = { name: "abacimages" };
    const abac = { ...team, ...web, ...imported, "aks-acr:workload": { waitSeconds: 20 } };

    it("does not let an Owner push, and says which role does", async () => {
        await made("az acr create --name abacimages --resource-group team --role-assignment-mode rbac-abac");
        await stack("abac", { ...abac, "aks-acr:registry": { ...abacimages, permissions: "abac" } });
        const { code, output } = await up("abac");
        expect(code).not.toBe(0);
        expect(output).toMatch(
            /does not let you push \(HTTP 401\)\. .*--role "Container Registry Repository Writer"/,
        );
    });

    it("ignores AcrPull, which is recognised", async () => {
        const owner = (await azure("ad", "user", "list")).find(
            (user: any) => user.userPrincipalName === "owner@example.com",
        );
        await az(
            `az role assignment create --assignee ${owner.id} --role "Container Registry Repository Writer" --scope ${ids.abacimages}`,
        );
        configure("abac", { ...abac, "aks-acr:registry": abacimages });
        const { code, output } = await up("abac");
        expect(code).not.toBe(0);
        expect(output).toContain("the registry ignores AcrPull, as registries in ABAC mode do");
        expect(output).toContain("set aks-acr:registry.permissions to abac");
    });

    it("lets pull with Container Registry Repository Reader", async () => {
        // Kubelet tries less and less often.
        const workload = { waitSeconds: 300 };
        configure("abac", {
            ...abac,
            "aks-acr:registry": { ...abacimages, permissions: "abac" },
            "aks-acr:workload": workload,
        });
        await upped("abac");
        await running("abac");
        expect((await outputsOf("abac")).pullAccess.roleDefinitionId).toMatch(
            /\/b93aa761-3e63-49ed-ac28-beffa264f7ac$/,
        );
        await destroy("abac");
    });
});

describe("a cluster with several registries", () => {
    it("may pull from each of them", async () => {
        await made("az acr create --name moreimages --resource-group team");
        await stack("more", { ...team, ...web, ...imported, "aks-acr:registry": { name: "moreimages" } });
        await stack("main", { ...adopted, ...imported, "aks-acr:extraPullFrom": [ids.moreimages] });
        await upped("main");
        await running("main");
        configure("more", {
            ...team,
            ...web,
            ...imported,
            "aks-acr:registry": { name: "moreimages" },
            "aks-acr:roleAssignments": "external",
        });
        await upped("more");
        await running("more");
        await destroy("more");
        await destroy("main");
    });
});

describe("a run that lacks something", () => {
    it("without docker says what the doctor says", async () => {
        await stack("lacking", { ...adopted, "docker:host": "unix:///nowhere/docker.sock" });
        const { code, output } = await up("lacking");
        expect(code).not.toBe(0);
        expect(output).toContain(advice.docker);
    });

    it("without an Azure login says what the doctor says", async () => {
        await az("az logout");
        const { code, output } = await up("lacking");
        await signIn("owner");
        expect(code).not.toBe(0);
        expect(output).toContain(advice.azure);
    });

    it("is refused with all that is wrong, before anything is changed", async () => {
        await az("az aks stop --name web --resource-group team");
        configure("lacking", {
            ...team,
            ...web,
            "docker:host": "unix:///nowhere/docker.sock",
            "aks-acr:registry": { name: "nothing" },
        });
        const { output } = await up("lacking");
        await az("az aks start --name web --resource-group team");
        expect(problems(output).map((problem) => problem.split(",")[0])).toEqual([
            advice.docker.split(",")[0],
            'aks-acr:cluster.name is "web"',
            'aks-acr:registry.name is "nothing"',
        ]);
        await succeed("run", "destroy", "--yes", "--skip-preview", "--remove", "--stack", "lacking");
    });
});

describe("a stack that changes its way", () => {
    const created = { ...team, ...web, ...imported, "aks-acr:registry": { create: { name: "ownimages" } } };
    const registry =
        "urn:pulumi:switched::aks-acr::aks-acr:index:ContainerRegistry$azure-native:containerregistry:Registry::registry";

    it("from building to importing updates the image, and what runs", async () => {
        await stack("switched", { ...created, "aks-acr:image": { build: {} } });
        await upped("switched");
        configure("switched", created);
        const shown = await preview("switched");
        expect(shown).toMatch(/docker:index:Image nginx-image update/);
        expect(shown).toMatch(/~ 2 to update/);
        expect(shown).not.toMatch(/replace|delete/);
        await upped("switched");
        await running("switched");
    });

    it("from a registry that it made to the same one by name would delete it; the documented way keeps it", async () => {
        configure("switched", { ...created, "aks-acr:registry": { name: "ownimages" } });
        expect(await preview("switched")).toMatch(/azure-native:containerregistry:Registry registry delete/);
        await succeed("run", "up", "--yes", "--skip-preview", "--stack", "switched", "--exclude", registry);
        await succeed("run", "state", "delete", "--yes", "--stack", "switched", registry);
        expect(await preview("switched")).toMatch(/Resources:\n +\d+ unchanged\n/);
        expect(await azure("acr", "show", "--name", "ownimages")).toMatchObject({ name: "ownimages" });
        await running("switched");
    });

    it("back to making it takes it over by import", async () => {
        const { id } = await azure("acr", "show", "--name", "ownimages");
        configure("switched", created);
        const { code, output } = await up("switched");
        expect(code).not.toBe(0);
        expect(output).toContain(
            `${id} is there already. Set aks-acr:registry.id to that id to use it as it is`,
        );
        const parent = "component=urn:pulumi:switched::aks-acr::aks-acr:index:ContainerRegistry::registry";
        await succeed(
            ...["run", "import", "--yes", "--stack", "switched", "--protect=false", "--generate-code=false"],
            ...["azure-native:containerregistry:Registry", "registry", id, "--parent", parent],
        );
        const shown = await preview("switched");
        expect(shown).not.toMatch(/create|replace|delete/);
        await upped("switched");
        await destroy("switched");
        const left = (await azure("resource", "list")).map((each: any) => each.id);
        expect(left).not.toContain(id);
    });
});
