import * as fc from "fast-check";
import { load } from "js-yaml";
import type { Properties } from "../../../sandbox/azure/model";
import { bringing, clusterBody, newTeam, refusalOf, roles } from "./fixture";

/** A team with a control plane's and a kubelet's identity, and perhaps the grant between them. */
async function teamWithIdentities({ granted = true } = {}) {
    const team = await newTeam();
    const controlPlane = await team.make.identity("control-plane");
    const kubelet = await team.make.identity("kubelet");
    if (granted) await team.make.grant(kubelet.id, controlPlane.principalId, roles.identityOperator);
    return { ...team, controlPlane, kubelet };
}

const missingPermission =
    "The cluster using user-assigned managed identity must be granted 'Managed Identity Operator' role to assign kubelet identity. You can run 'az role assignment create --assignee <control-plane-identity-principal-id> --role 'Managed Identity Operator' --scope <kubelet-identity-resource-id>' to grant the permission. See https://learn.microsoft.com/en-us/azure/aks/use-managed-identity#add-role-assignment";

describe("a cluster", () => {
    test("that brings its kubelet identity shows that one, and its nodes run as it", async () => {
        const started: string[] = [];
        const team = await teamWithIdentities();
        team.azure.infrastructure.startCluster = async ({ kubeletClientId }) => {
            started.push(kubeletClientId);
            return { kubeconfig: "apiVersion: v1", fqdn: "10.0.0.1" };
        };
        const { make, controlPlane, kubelet } = team;
        const cluster = await make.cluster(bringing(controlPlane, kubelet));
        expect(cluster).toMatchObject({
            identityProfile: {
                kubeletidentity: {
                    resourceId: kubelet.id,
                    clientId: kubelet.clientId,
                    objectId: kubelet.principalId,
                },
            },
            identity: {
                type: "UserAssigned",
                userAssignedIdentities: {
                    [controlPlane.id]: {
                        clientId: controlPlane.clientId,
                        principalId: controlPlane.principalId,
                    },
                },
            },
            fqdn: "10.0.0.1",
            nodeResourceGroup: "MC_team_web_westeurope",
            currentKubernetesVersion: "1.36.2",
            provisioningState: "Succeeded",
            powerState: { code: "Running" },
            servicePrincipalProfile: { clientId: "msi" },
        });
        expect(cluster.agentPoolProfiles).toMatchObject([
            { name: "system", mode: "System", count: 2, currentOrchestratorVersion: "1.36.2" },
        ]);
        expect(started).toEqual([kubelet.clientId]);
    });

    test("that brings none gets a kubelet identity in its node resource group", async () => {
        const { azure, ids, make } = await newTeam();
        const { identityProfile } = await make.cluster();
        const { resourceId, objectId } = identityProfile.kubeletidentity;
        expect(resourceId).toBe(
            `${ids.subscription}/resourceGroups/MC_team_web_westeurope/providers/Microsoft.ManagedIdentity/userAssignedIdentities/web-agentpool`,
        );
        expect(azure.find(objectId)?.type).toBe("ServicePrincipal");
    });

    test("shows the issuer of its tokens where that is enabled", async () => {
        const { azure, make } = await newTeam();
        const { oidcIssuerProfile } = await make.cluster({ oidcIssuerProfile: { enabled: true } });
        expect(oidcIssuerProfile.issuerURL).toMatch(
            new RegExp(
                `^https://westeurope\\.oic\\.prod-aks\\.azure\\.com/${azure.tenantId}/[0-9a-f-]{36}/$`,
            ),
        );
    });

    test("gives its kubeconfig to those who may have it", async () => {
        const { azure, ids, make } = await newTeam();
        await make.cluster();
        const [credentials] = azure.clusterUserCredentials(ids.cluster);
        expect(credentials?.name).toBe("clusterUser");
        expect(Buffer.from(credentials?.value ?? "", "base64").toString()).toContain("kind: Config");
        azure.signIn("reader@example.com");
        const refusal = await refusalOf(() => azure.clusterUserCredentials(ids.cluster));
        expect(refusal.message).toContain(
            "perform action 'Microsoft.ContainerService/managedClusters/listClusterUserCredential/action'",
        );
    });

    test("without local accounts gives no static credential", async () => {
        const { azure, ids, make } = await newTeam();
        await make.cluster({ disableLocalAccounts: true });
        const refusal = await refusalOf(() => azure.clusterUserCredentials(ids.cluster));
        expect(refusal).toMatchObject({
            status: 400,
            code: "BadRequest",
            message:
                "Getting static credential is not allowed because this cluster is set to disable local accounts. For more details, see https://learn.microsoft.com/en-us/azure/aks/manage-local-accounts-managed-azure-ad",
        });
    });

    test("gives its kubeconfig to a Cluster User, who is no Reader", async () => {
        const { azure, ids, make } = await newTeam();
        await make.cluster();
        const objectId = "99999999-0000-4000-8000-000000000001";
        azure.addPrincipal({ objectId, name: "developer", type: "User" });
        await make.grant(ids.cluster, objectId, roles.clusterUser, { principalType: "User" });
        azure.signIn("developer");
        expect(azure.clusterUserCredentials(ids.cluster)).toHaveLength(1);
    });

    test("takes its pools, its node resource group and what is in that along when it is deleted", async () => {
        const { azure, ids, make } = await newTeam();
        await make.cluster();
        await azure.delete(ids.cluster);
        expect(azure.list().map(({ id }) => id)).toEqual(
            expect.not.arrayContaining([expect.stringMatching(/web|MC_team/)]),
        );
        expect(azure.principals.map(({ name }) => name)).not.toContain("web-agentpool");
    });

    test("keeps its version on an update that names none", async () => {
        const { make } = await newTeam();
        await make.cluster({ kubernetesVersion: "1.35" });
        expect(await make.cluster({ tags: { team: "web" } })).toMatchObject({
            currentKubernetesVersion: "1.35.6",
        });
    });

    test("is started again with the identity that an update brings, and only then", async () => {
        const team = await teamWithIdentities();
        const { azure, make, controlPlane, kubelet } = team;
        const started: string[] = [];
        azure.infrastructure.startCluster = async ({ kubeletClientId }) => {
            started.push(kubeletClientId);
            return { kubeconfig: "", fqdn: "" };
        };
        await make.cluster(bringing(controlPlane, kubelet));
        await make.cluster({ ...bringing(controlPlane, kubelet), tags: { team: "web" } });
        const other = await make.identity("other");
        await make.grant(other.id, controlPlane.principalId, roles.identityOperator);
        await make.cluster(bringing(controlPlane, other));
        expect(started).toEqual([kubelet.clientId, other.clientId]);
    });

    test("whose node could not start leaves nothing behind", async () => {
        const { azure, ids, make } = await newTeam();
        const before = azure.toJSON();
        azure.infrastructure.startCluster = async () =>
            Promise.reject(new Error("the kubelet did not answer"));
        await expect(make.cluster()).rejects.toThrow("the kubelet did not answer");
        expect(azure.resource(ids.cluster)).toBeUndefined();
        expect(azure.toJSON()).toEqual(before);
    });

    test("of a service principal shows its client id and no secret", async () => {
        const { make } = await newTeam();
        const servicePrincipalProfile = { clientId: "sp", secret: "hunter2" };
        const cluster = await make.cluster({ identity: undefined, servicePrincipalProfile });
        expect(cluster.servicePrincipalProfile).toEqual({ clientId: "sp" });
        expect(cluster.identityProfile).toBeUndefined();
    });

    test("of a service principal pulls as that, and is not started again by an update", async () => {
        const { azure, make } = await newTeam();
        const started: string[] = [];
        azure.infrastructure.startCluster = async ({ kubeletClientId }) => {
            started.push(kubeletClientId);
            return { kubeconfig: "", fqdn: "" };
        };
        const body = { identity: undefined, servicePrincipalProfile: { clientId: "sp" } };
        await make.cluster(body);
        await make.cluster({ ...body, tags: { team: "web" } });
        expect(started).toEqual(["sp"]);
    });
});

describe("a stopped cluster", () => {
    const stopped = async () => {
        const team = await newTeam();
        await team.make.cluster();
        await team.azure.setPower(team.ids.cluster, "Stopped");
        return team;
    };

    test("shows it, with its pools, until it is started", async () => {
        const { azure, ids } = await stopped();
        const powerState = { code: "Stopped" };
        expect(azure.get(ids.cluster)).toMatchObject({ powerState, agentPoolProfiles: [{ powerState }] });
        await azure.setPower(ids.cluster, "Running");
        expect(azure.get(ids.cluster).powerState).toEqual({ code: "Running" });
    });

    test("still gives its kubeconfig", async () => {
        const { azure, ids } = await stopped();
        expect(azure.clusterUserCredentials(ids.cluster)).toHaveLength(1);
    });

    test.each([
        ["an update", "updating", ({ make }) => make.cluster()],
        ["a pool", "updating", ({ azure, ids }) => azure.put(`${ids.cluster}/agentPools/user`, {})],
        ["being stopped", "stopping", ({ azure, ids }) => azure.setPower(ids.cluster, "Stopped")],
    ] as [string, string, (team: Awaited<ReturnType<typeof newTeam>>) => Promise<unknown>][])(
        "refuses %s",
        async (_, operation, work) => {
            const refusal = await refusalOf(work(await stopped()));
            expect(refusal).toMatchObject({
                status: 400,
                code: "OperationNotAllowed",
                message: `managed cluster is in Provisioning State(Succeeded) and Power State(Stopped), ${operation} cannot be performed`,
            });
        },
    );

    test("cannot be had by a Reader", async () => {
        const { azure, ids, make } = await newTeam();
        await make.cluster();
        azure.signIn("reader@example.com");
        const refusal = await refusalOf(azure.setPower(ids.cluster, "Stopped"));
        expect(refusal.message).toContain(
            "perform action 'Microsoft.ContainerService/managedClusters/stop/action'",
        );
    });
});

describe("a cluster with Microsoft Entra", () => {
    const withEntra = async (aadProfile: Properties = {}) => {
        const team = await newTeam();
        const cluster = await team.make.cluster({ aadProfile: { managed: true, ...aadProfile } });
        return { ...team, cluster };
    };

    test("shows the tenant", async () => {
        const { azure, cluster } = await withEntra({ enableAzureRBAC: true });
        expect(cluster.aadProfile).toEqual({
            managed: true,
            enableAzureRBAC: true,
            tenantID: azure.tenantId,
        });
    });

    test.each([false, true])(
        "gives a kubeconfig that runs kubelogin and holds no credential; local accounts disabled: %s",
        async (disableLocalAccounts) => {
            const { azure, ids, make } = await newTeam();
            await make.cluster({ aadProfile: { managed: true }, disableLocalAccounts });
            const [credentials] = azure.clusterUserCredentials(ids.cluster);
            const text = Buffer.from(credentials?.value ?? "", "base64").toString();
            expect(text).toMatch(/^apiVersion: v1\n/);
            const { clusters, users } = load(text) as Properties;
            const server = "https://web.hcp.westeurope.azmk8s.io:443";
            expect(clusters).toEqual([{ name: "web", cluster: { server } }]);
            expect(users).toEqual([
                {
                    name: "clusterUser",
                    user: {
                        exec: {
                            apiVersion: "client.authentication.k8s.io/v1beta1",
                            command: "kubelogin",
                            args: [
                                ...["get-token", "--environment", "AzurePublicCloud"],
                                ...["--server-id", "6dae42f8-4368-4678-94ff-3960e28e3630"],
                                ...["--client-id", "80faf920-1908-4b52-b5ef-a8e7bedfc67a"],
                                ...["--tenant-id", azure.tenantId, "--login", "devicecode"],
                            ],
                            env: null,
                            installHint: expect.stringContaining("https://aka.ms/aks/kubelogin"),
                            provideClusterInfo: false,
                        },
                    },
                },
            ]);
        },
    );

    test("knows people and pipelines by their object ids, with their groups", async () => {
        const { azure, ids } = await withEntra();
        const [deployer, group] = [azure.principal("deployer"), azure.find("platform-admins")];
        const reader = azure.principal("reader@example.com").objectId;
        expect(azure.clusterUser(ids.cluster, deployer.objectId)).toEqual({
            username: deployer.objectId,
            groups: [group?.objectId],
        });
        expect(azure.clusterUser(ids.cluster, reader)).toEqual({ username: reader, groups: [] });
    });

    test("makes the members of its administrators' groups masters", async () => {
        const { azure, ids, make } = await newTeam();
        const group = azure.find("platform-admins")?.objectId;
        await make.cluster({ aadProfile: { managed: true, adminGroupObjectIDs: [group] } });
        const groupsOf = (who: string) =>
            azure.clusterUser(ids.cluster, azure.principal(who).objectId)?.groups;
        expect(groupsOf("deployer")).toEqual([group, "system:masters"]);
        expect(groupsOf("reader@example.com")).toEqual([]);
    });

    test.each([
        [true, ["system:masters"]],
        [false, []],
    ])("heeds RBAC Cluster Admin where Azure RBAC is %s", async (enableAzureRBAC, groups) => {
        const { azure, ids, make } = await withEntra({ enableAzureRBAC });
        const { objectId } = azure.principal("reader@example.com");
        await make.grant(ids.group, objectId, roles.clusterAdmin, { principalType: "User" });
        expect(azure.clusterUser(ids.cluster, objectId)?.groups).toEqual(groups);
    });

    test("gives an Owner in Azure no more than others in Kubernetes", async () => {
        const { azure, ids } = await withEntra({ enableAzureRBAC: true });
        expect(azure.clusterUser(ids.cluster, azure.owner.objectId)?.groups).not.toContain("system:masters");
    });

    test("knows nobody who is not in the directory, and no other cluster knows anybody", async () => {
        const { azure, ids, make } = await newTeam();
        await make.cluster();
        expect(azure.clusterUser(ids.cluster, azure.owner.objectId)).toBeUndefined();
        await make.cluster({ aadProfile: { managed: true } });
        expect(azure.clusterUser(ids.cluster, "99999999-0000-4000-8000-000000000002")).toBeUndefined();
    });
});

describe("AKS refuses", () => {
    test("a custom kubelet identity while the control plane's has no role on it", async () => {
        const { make, controlPlane, kubelet } = await teamWithIdentities({ granted: false });
        const refusal = await refusalOf(make.cluster(bringing(controlPlane, kubelet)));
        expect(refusal).toMatchObject({
            status: 400,
            code: "CustomKubeletIdentityMissingPermissionError",
            message: missingPermission,
        });
        expect(JSON.parse(refusal.body ?? "")).toEqual({
            code: "CustomKubeletIdentityMissingPermissionError",
            details: null,
            message: missingPermission,
            subcode: "",
        });
    });

    test("a custom kubelet identity while the role on it propagates, and takes it after that", async () => {
        const { azure, make, clock, controlPlane, kubelet } = await teamWithIdentities({ granted: false });
        azure.configure({ propagationSeconds: 60 });
        await make.grant(kubelet.id, controlPlane.principalId, roles.identityOperator);
        const refusal = await refusalOf(make.cluster(bringing(controlPlane, kubelet)));
        expect(refusal.code).toBe("CustomKubeletIdentityMissingPermissionError");
        clock.now += 60_000;
        await make.cluster(bringing(controlPlane, kubelet));
    });

    test("a grant in the wrong direction: on the control plane's identity", async () => {
        const { make, controlPlane, kubelet } = await teamWithIdentities({ granted: false });
        await make.grant(controlPlane.id, controlPlane.principalId, roles.identityOperator);
        const refusal = await refusalOf(make.cluster(bringing(controlPlane, kubelet)));
        expect(refusal.code).toBe("CustomKubeletIdentityMissingPermissionError");
    });

    test("an identity that there is not", async () => {
        const { ids, make } = await newTeam();
        const missing = ids.identity("missing");
        const identity = { type: "UserAssigned", userAssignedIdentities: [missing] };
        expect(await refusalOf(make.cluster({ identity }))).toMatchObject({
            code: "FailedIdentityOperation",
            message: `Identity operation for resource '${ids.cluster}' failed with error 'Failed to perform resource identity operation. Status: 'BadRequest'. Response: '{"error":{"code":"BadRequest","message":"Resource '${missing}' was not found."}}'.`,
        });
    });

    test("an empty DNS prefix in these words", async () => {
        const { make } = await newTeam();
        const refusal = await refusalOf(make.cluster({ dnsPrefix: "" }));
        expect(refusal).toMatchObject({
            status: 400,
            code: "InvalidParameter",
            message:
                "The value of parameter dnsPrefix is invalid. Error details: DNS prefix '' is invalid. DNS prefix must contain between 1 and 54 characters. Please see https://aka.ms/aks-naming-rules for more details..",
        });
        expect(JSON.parse(refusal.body ?? "").target).toBe("dnsPrefix");
    });

    test("a version that is not supported", async () => {
        const { make } = await newTeam();
        expect(await refusalOf(make.cluster({ kubernetesVersion: "1.29.0" }))).toMatchObject({
            status: 400,
            code: "K8sVersionNotSupported",
            message:
                "Managed cluster web is on version 1.29.0 which is not supported in this region. Please use [az aks get-versions] command to get the supported version list in this region. For more information, see https://aka.ms/supported-version-list",
        });
    });

    test("an old version unless the cluster has long-term support", async () => {
        const { make } = await newTeam();
        const old = { kubernetesVersion: "1.33.1" };
        expect((await refusalOf(make.cluster(old))).message).toContain(
            "which is only available for Long-Term Support (LTS)",
        );
        const longTerm = { sku: { name: "Base", tier: "Premium" }, supportPlan: "AKSLongTermSupport" };
        expect(await make.cluster({ ...old, ...longTerm })).toMatchObject({
            currentKubernetesVersion: "1.33.1",
        });
    });

    test.each([
        [
            "1.34",
            "1.36",
            "Upgrading Kubernetes version 1.34.9 to 1.36.2 is not allowed. Available upgrades: [1.35.6].",
        ],
        [
            "1.36",
            "1.35",
            "Downgrading Kubernetes version 1.36.2 to 1.35.6 is not allowed. Available upgrades: [1.37.0].",
        ],
        [
            "1.35.1",
            "1.35.0",
            "Downgrading Kubernetes version 1.35.1 to 1.35.0 is not allowed. Available upgrades: [1.35.6 1.36.2].",
        ],
    ])("a change of version from %s to %s", async (from, to, words) => {
        const { make } = await newTeam();
        await make.cluster({ kubernetesVersion: from });
        expect(await refusalOf(make.cluster({ kubernetesVersion: to }))).toMatchObject({
            status: 400,
            code: "OperationNotAllowed",
            message: `${words} Please see https://aka.ms/aks-supported-k8s-ver for version details.`,
        });
    });

    test("a version for some of the pools only", async () => {
        const { azure, ids, make } = await newTeam();
        await make.cluster({ kubernetesVersion: "1.35" });
        await azure.put(`${ids.cluster}/agentPools/user`, { count: 3, vmSize: "Standard_D4s_v5" });
        expect(await refusalOf(make.cluster(upgrade("1.36")))).toMatchObject({
            status: 400,
            code: "NotAllAgentPoolOrchestratorVersionSpecifiedAndUnchanged",
        });
    });

    test("another size of a pool's machines", async () => {
        const { make } = await newTeam();
        await make.cluster();
        const agentPoolProfiles = [{ name: "system", mode: "System", vmSize: "Standard_D2s_v5" }];
        expect(await refusalOf(make.cluster({ agentPoolProfiles }))).toMatchObject({
            status: 400,
            code: "PropertyChangeNotAllowed",
            message: "Changing property 'properties.vmSize' is not allowed.",
        });
    });
});

/** A new version of a cluster and its pool. */
const upgrade = (version: string) => ({
    kubernetesVersion: version,
    agentPoolProfiles: clusterBody.agentPoolProfiles.map((pool) => ({
        ...pool,
        orchestratorVersion: version,
    })),
});

describe("an agent pool", () => {
    test("keeps its version when its cluster gets another, unless it is told that one", async () => {
        const { azure, ids, make } = await newTeam();
        const versions = ({ currentKubernetesVersion, agentPoolProfiles }: Properties) => [
            currentKubernetesVersion,
            ...agentPoolProfiles.map((pool: Properties) => pool.currentOrchestratorVersion),
        ];
        await make.cluster({ kubernetesVersion: "1.35" });
        expect(versions(await make.cluster({ kubernetesVersion: "1.36" }))).toEqual(["1.36.2", "1.35.6"]);
        expect(versions(await make.cluster(upgrade("1.36")))).toEqual(["1.36.2", "1.36.2"]);
        const user = `${ids.cluster}/agentPools/user`;
        await azure.put(user, { vmSize: "Standard_D4s_v5" });
        await make.cluster({ kubernetesVersion: "1.37" });
        await azure.put(user, { vmSize: "Standard_D4s_v5", orchestratorVersion: "1.37" });
        expect(versions(azure.get(ids.cluster))).toEqual(["1.37.0", "1.36.2", "1.37.0"]);
    });

    test("is shown by its cluster, runs its version and survives a change of the cluster", async () => {
        const { azure, ids, make } = await newTeam();
        await make.cluster({ kubernetesVersion: "1.35" });
        await azure.put(`${ids.cluster}/agentPools/user`, { count: 3, vmSize: "Standard_D4s_v5" });
        const { agentPoolProfiles } = await make.cluster({ tags: { team: "web" } });
        expect(agentPoolProfiles).toMatchObject([
            { name: "system", mode: "System" },
            { name: "user", mode: "User", count: 3, orchestratorVersion: "1.35.6" },
        ]);
    });

    test("is not added by naming it in an update of the cluster", async () => {
        const { make } = await newTeam();
        await make.cluster();
        const agentPoolProfiles = [...clusterBody.agentPoolProfiles, { name: "more", mode: "User" }];
        const updated = await make.cluster({ agentPoolProfiles });
        expect(updated.agentPoolProfiles.map(({ name }: { name: string }) => name)).toEqual(["system"]);
    });

    test("needs a cluster", async () => {
        const { azure, ids } = await newTeam();
        const refusal = await refusalOf(azure.put(`${ids.cluster}/agentPools/user`, {}));
        expect(refusal).toMatchObject({ status: 404, code: "ResourceNotFound" });
    });

    test("may be called any 1 to 12 lower-case letters and digits that begin with a letter", async () => {
        const { azure, ids, make } = await newTeam();
        await make.cluster();
        const accepts = (name: string) =>
            azure.put(`${ids.cluster}/agentPools/${name}`, {}).then(
                () => true,
                () => false,
            );
        const names = fc.string({ unit: fc.constantFrom(..."abAB01-"), minLength: 1, maxLength: 14 });
        await fc.assert(
            fc.asyncProperty(
                names,
                async (name) => (await accepts(name)) === /^[a-z][a-z0-9]{0,11}$/.test(name),
            ),
        );
    });
});
