import { readdirSync, rmSync } from "node:fs";
import { connect } from "../../sandbox/kubernetes/client";
import { podsOf } from "../../sandbox/result";
import {
    azure,
    changes,
    eventually,
    inHome,
    type Outputs,
    outputs,
    sandbox,
    startOver,
    succeed,
    up,
} from "./sandbox";

// What happens to a stack after it is up, and how it is taken down: each test goes on where the one before it ended.
jest.setTimeout(10 * 60_000);

let first: Outputs;
const client = () => connect(first.kubeconfig);
const deployment = () => `/apis/apps/v1/namespaces/${first.namespace}/deployments/${first.deployment}`;
const pull = () => [
    ...["--assignee", first.pullAccess.principalId],
    ...["--role", "AcrPull", "--scope", first.registryId],
];
const cluster = () => ["--name", first.clusterName, "--resource-group", first.resourceGroupName];
const configure = (key: string, value: string) =>
    succeed("run", "config", "set", "--path", `aks-acr:${key}`, value);
const unchanged = /Resources:\n +20 unchanged\n/;

const component = (type: string) => `urn:pulumi:dev::aks-acr::aks-acr:index:${type}`;
const clusterUrn = `${component("AksCluster")}$azure-native:containerservice:ManagedCluster::cluster`;
const registryUrn = `${component("ContainerRegistry")}$azure-native:containerregistry:Registry::registry`;

/** Brings the stack up, and waits for its two pods. */
async function running(): Promise<string> {
    const output = await up();
    first = await outputs();
    await eventually(twoReady, 60, "two ready pods");
    return output;
}

async function twoReady(): Promise<true | undefined> {
    const pods = await podsOf(client(), first.namespace);
    const fine = pods.filter(
        ({ phase, ready, digest }) => phase === "Running" && ready && digest === first.imageDigest,
    );
    return pods.length === 2 && fine.length === 2 ? true : undefined;
}

/** Versions of the control plane and of each pool's nodes. */
async function versions(): Promise<string[]> {
    const { currentKubernetesVersion, agentPoolProfiles } = await azure("aks", "show", ...cluster());
    return [
        currentKubernetesVersion,
        ...agentPoolProfiles.map((pool: any) => pool.currentOrchestratorVersion),
    ];
}

beforeAll(async () => {
    await startOver();
    await configure("cluster.create.kubernetesVersion", "1.35");
    await running();
});

afterAll(async () => {
    await sandbox("stop");
});

describe("drift behind the stack's back", () => {
    it("is shown by a refresh's preview and by a preview that refreshes, and by no other", async () => {
        await succeed("azure", "role", "assignment", "delete", ...pull());
        await succeed("azure", "acr", "update", "--name", first.registryName, "--admin-enabled", "true");
        await client().call("PATCH", deployment(), {
            contentType: "application/merge-patch+json",
            body: { metadata: { labels: { app: null } }, spec: { replicas: 1 } },
        });
        const refresh = await succeed("run", "refresh", "--preview-only", "--diff");
        expect(refresh).toContain("- azure-native:authorization:RoleAssignment: (delete)");
        expect(refresh).toContain("~ adminUserEnabled: false => true");
        expect(refresh).toContain('- app: "nginx0"');
        expect(refresh).toContain("~ replicas: 2 => 1");
        expect(refresh).toMatch(/ ~ 2 to update\n +- 1 to delete\n +3 changes\. 17 unchanged/);
        const preview = await succeed("run", "preview", "--refresh");
        expect(preview).toMatch(/\+ +azure-native:authorization:RoleAssignment acr-pull create/);
        expect(preview).toMatch(/~ +azure-native:containerregistry:Registry registry update/);
        expect(preview).toMatch(/~ +kubernetes:apps\/v1:Deployment nginx update/);
        // The image as well: what a registry that is updated will be is not known before.
        expect(preview).toMatch(/\+ 1 to create\n +~ 3 to update\n +4 changes\. 16 unchanged/);
        expect(await succeed("run", "preview")).toMatch(unchanged);
    });

    it("is mended by an update that refreshes", async () => {
        expect(changes(await up("--refresh"))).toEqual([
            "azure-native:authorization:RoleAssignment acr-pull created",
            "azure-native:containerregistry:Registry registry updated",
            "kubernetes:apps/v1:Deployment nginx updated",
        ]);
        expect(await succeed("run", "refresh", "--preview-only")).toMatch(unchanged);
        expect(await azure("acr", "show", "--name", first.registryName)).toMatchObject({
            adminUserEnabled: false,
        });
        const grants = await azure("role", "assignment", "list", "--scope", first.registryId);
        expect(grants).toMatchObject([{ principalId: first.pullAccess.principalId }]);
        const { metadata, spec } = await client().call("GET", deployment());
        expect([metadata.labels, spec.replicas]).toEqual([{ app: "nginx0" }, 2]);
        await eventually(twoReady, 30, "two ready pods");
    });
});

describe("another Kubernetes version", () => {
    it("is one update of the cluster, nodes included", async () => {
        expect(await versions()).toEqual(["1.35.6", "1.35.6"]);
        await configure("cluster.create.kubernetesVersion", "1.36");
        const preview = await succeed("run", "preview", "--diff");
        expect(preview).toContain('~ kubernetesVersion: "1.35" => "1.36"');
        expect(preview).toMatch(/ ~ 1 to update\n +19 unchanged/);
        expect(changes(await up())).toEqual(["azure-native:containerservice:ManagedCluster cluster updated"]);
        expect(await versions()).toEqual(["1.36.2", "1.36.2"]);
    });

    it("that is out of support is refused in Azure's words, and changes nothing", async () => {
        await configure("cluster.create.kubernetesVersion", "1.33");
        const { code, output } = await sandbox("run", "up", "--yes", "--skip-preview");
        await configure("cluster.create.kubernetesVersion", "1.36");
        expect(code).not.toBe(0);
        expect(output).toContain('Code="K8sVersionNotSupported"');
        expect(await versions()).toEqual(["1.36.2", "1.36.2"]);
    });
});

describe("a cluster whose certificates were rotated", () => {
    it("gives the stack a new kubeconfig, and replaces nothing", async () => {
        await succeed("stop");
        const [name = ""] = readdirSync(inHome("clusters"));
        rmSync(inHome("clusters", name, "certificates"), { recursive: true });
        // A refresh still has the old credentials, unless it runs the program first.
        const { output } = await sandbox("run", "refresh", "--preview-only");
        expect(output).toContain("is unreachable: certificate signature failure");
        const refresh = await succeed("run", "refresh", "--preview-only", "--run-program");
        expect(refresh).toMatch(/ ~ 1 to update\n +19 unchanged/);
        expect(changes(await up())).toEqual(["pulumi:providers:kubernetes cluster updated"]);
        const { kubeconfig } = await outputs();
        expect(kubeconfig).not.toBe(first.kubeconfig);
        first = await outputs();
        await eventually(twoReady, 60, "two ready pods");
    });
});

describe("another resource group", () => {
    it("previews as a new everything, the images' registry included", async () => {
        await succeed("azure", "group", "create", "--name", "other", "--location", "westeurope");
        await configure("resourceGroup", "other");
        const preview = await succeed("run", "preview");
        await succeed("run", "config", "rm", "aks-acr:resourceGroup");
        expect(preview).toMatch(/\+- azure-native:containerregistry:Registry registry replace/);
        expect(preview).toMatch(/\+- azure-native:containerservice:ManagedCluster cluster replace/);
        expect(preview).toMatch(/- +azure-native:resources:ResourceGroup aks-acr delete/);
        expect(preview).toMatch(/~ 1 to update\n +- 1 to delete\n +\+-11 to replace/);
    });
});

describe("a cluster that somebody deleted", () => {
    it("is said to be gone, and made anew with its workload once the stack has forgotten it", async () => {
        await succeed("azure", "aks", "delete", ...cluster(), "--yes");
        const { code, output } = await sandbox("run", "preview");
        expect(code).not.toBe(0);
        expect(output).toContain(
            `The cluster nginx-dev, which this stack made, is gone from Azure. \`pulumi state delete --target-dependents '${clusterUrn}'\``,
        );
        await succeed("run", "state", "delete", "--yes", "--target-dependents", clusterUrn);
        expect(changes(await running())).toEqual([
            "azure-native:containerservice:ManagedCluster cluster created",
            "kubernetes:apps/v1:Deployment nginx created",
            "kubernetes:core/v1:Namespace nginx created",
            "kubernetes:core/v1:Service nginx created",
            "kubernetes:policy/v1:PodDisruptionBudget nginx created",
            "pulumi:providers:kubernetes cluster created",
        ]);
    });
});

describe("a stack with protected resources", () => {
    it("is not destroyed: the preview says what is protected, and nothing is touched", async () => {
        await succeed("run", "state", "protect", "--yes", clusterUrn, registryUrn);
        const { code, output } = await sandbox("run", "destroy", "--yes");
        expect(code).not.toBe(0);
        expect(output).toContain(`resource "${clusterUrn}" cannot be deleted`);
        expect(output).toContain(`because it is protected.`);
        expect(output).toContain(`\`pulumi state unprotect '${registryUrn}'\``);
        expect(output).not.toContain("Destroying (dev)");
        expect(await succeed("run", "refresh", "--preview-only")).toMatch(unchanged);
        await eventually(twoReady, 1, "two ready pods");
    });

    it("is unprotected by its next update, where the setting does not protect it", async () => {
        const preview = await succeed("run", "preview");
        expect(preview).toMatch(/ManagedCluster cluster +\[diff: ~protect\]/);
        expect(preview).toMatch(unchanged);
    });
});

describe("destroy", () => {
    it("goes on once unprotected, and takes the workload down before the cluster, grants before identities", async () => {
        await succeed("run", "state", "unprotect", "--yes", clusterUrn, registryUrn);
        const output = await succeed("run", "destroy", "--yes");
        const events = [...output.matchAll(/ (\S+ \S+) (deleting|deleted) \(/g)].map(
            ([, what, how]) => `${what} ${how}`,
        );
        const [workload, namespace] = [
            "kubernetes:apps/v1:Deployment nginx",
            "kubernetes:core/v1:Namespace nginx",
        ];
        const [own, registry] = [
            "azure-native:containerservice:ManagedCluster cluster",
            "azure-native:containerregistry:Registry registry",
        ];
        const grant = (name: string) => `azure-native:authorization:RoleAssignment ${name}`;
        const identity = (name: string) =>
            `azure-native:managedidentity:UserAssignedIdentity cluster-${name}`;
        const wrong = [
            [workload, namespace],
            [namespace, own],
            [own, grant("cluster-uses-kubelet")],
            [grant("acr-pull"), registry],
            [grant("acr-pull"), identity("kubelet")],
            [grant("cluster-uses-kubelet"), identity("kubelet")],
            [grant("cluster-uses-kubelet"), identity("control-plane")],
            [registry, "azure-native:resources:ResourceGroup aks-acr"],
        ].filter(([sooner, later]) => {
            const [ended, began] = [events.indexOf(`${sooner} deleted`), events.indexOf(`${later} deleting`)];
            return ended < 0 || began < ended;
        });
        expect(wrong).toEqual([]);
        expect((await azure("resource", "list")).map(({ id }: any) => id)).toEqual([
            expect.stringMatching(/\/resourceGroups\/other$/),
        ]);
    });
});

describe("a stack whose cluster is gone", () => {
    it("is destroyed all the same", async () => {
        await running();
        await succeed("azure", "aks", "delete", ...cluster(), "--yes");
        await succeed("run", "destroy", "--yes");
        expect((await azure("resource", "list")).map(({ id }: any) => id)).toEqual([
            expect.stringMatching(/\/resourceGroups\/other$/),
        ]);
    });
});
