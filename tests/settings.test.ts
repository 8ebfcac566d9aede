import { checkSettings } from "../settings";

/** The problems that a configuration is refused with, one a line. */
function problemsOf(values: Record<string, unknown>): string[] {
    try {
        checkSettings(values, "dev");
    } catch (error) {
        return [...(error as Error).message.matchAll(/^ {2}- (.*)$/gm)].map((match) => match[1] ?? "");
    }
    return [];
}

describe("settings", () => {
    it("need nothing but a stack: every key has a default", () => {
        expect(checkSettings({}, "dev")).toEqual({
            resourceGroup: undefined,
            registry: { create: { name: undefined, sku: "Basic" } },
            roleAssignments: "create",
            extraPullFrom: [],
            protect: false,
            tags: {},
            cluster: {
                login: "azurecli",
                create: {
                    name: "nginx-dev",
                    dnsPrefix: undefined,
                    tier: "Free",
                    kubernetesVersion: undefined,
                    upgradeChannel: "patch",
                    systemPool: {
                        vmSize: "Standard_D4s_v5",
                        count: 2,
                        minCount: undefined,
                        maxCount: undefined,
                        zones: [],
                        maxPods: undefined,
                        osDiskType: "Managed",
                        onlyCriticalAddons: false,
                    },
                    userPools: [],
                    localAccounts: true,
                    adminGroupObjectIds: [],
                    authorizedIpRanges: [],
                    privateCluster: false,
                },
            },
            image: {
                build: { context: "app", dockerfile: "Dockerfile", platform: undefined },
                repository: "nginx",
                tag: "v1",
                login: "azure",
            },
            workload: {
                waitSeconds: undefined,
                autoscale: undefined,
                replicas: 2,
                namespace: "nginx",
                resources: {
                    requests: { cpu: "50m", memory: "32Mi" },
                    limits: { cpu: "250m", memory: "128Mi" },
                },
            },
        });
    });

    it("name the default cluster after the stack, with the characters that AKS allows", () => {
        expect(checkSettings({}, "team.feature_1").cluster.create?.name).toBe("nginx-team-feature-1");
        expect(checkSettings({}, "x".repeat(80)).cluster.create?.name).toHaveLength(63);
    });

    it("take an empty resource group for none", () => {
        expect(checkSettings({ resourceGroup: "" }, "dev").resourceGroup).toBeUndefined();
    });

    it("are refused all at once, each problem with its key, what was found and what to use", () => {
        const message = () =>
            checkSettings(
                { registry: { create: { name: "my-acr", sku: "Gold" } }, workload: { replicas: 0 } },
                "dev",
            );
        expect(message).toThrow(
            "3 problems; nothing was changed.\n" +
                '  - aks-acr:registry.create.name is "my-acr"; use 5 to 50 letters and digits\n' +
                '  - aks-acr:registry.create.sku is "Gold"; use Basic or Standard or Premium\n' +
                "  - aks-acr:workload.replicas is 0; use a whole number from 1 to 1000\n" +
                "See the settings with `pulumi config`, change one with `pulumi config set --path 'aks-acr:<key>' <value>`.",
        );
    });

    const cluster = (create: object) => ({ cluster: { create } });
    const subscription = "/subscriptions/aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb";
    const registryId = `${subscription}/resourceGroups/team/providers/Microsoft.ContainerRegistry/registries/teamimages`;
    const clusterId = `${subscription}/resourceGroups/team/providers/Microsoft.ContainerService/managedClusters/web`;
    const digest = `sha256:${"0123456789abcdef".repeat(4)}`;
    const cases: [string, Record<string, unknown>, string][] = [
        [
            "an unknown key",
            { replica: 3 },
            "aks-acr:replica is not a known key; use resourceGroup, registry, cluster, image, workload, protect, tags, roleAssignments, extraPullFrom, or remove it",
        ],
        [
            "an unknown key inside another",
            { registry: { create: { skus: "Basic" } } },
            "aks-acr:registry.create.skus is not a known key; use name, sku, or remove it",
        ],
        [
            "an unknown variant",
            { registry: { make: {} } },
            "aks-acr:registry.make is not a known key; use create, name, id, resourceGroup, permissions, or remove it",
        ],
        [
            "text for an object",
            { registry: "myacr" },
            'aks-acr:registry is "myacr"; use an object with create, name, id, resourceGroup, permissions',
        ],
        [
            "a list for an object",
            { workload: [] },
            "aks-acr:workload is []; use an object with replicas, autoscale, namespace, resources, waitSeconds",
        ],
        [
            "a resource group with a dot at its end",
            { resourceGroup: "team." },
            'aks-acr:resourceGroup is "team."; use 1 to 90 letters, digits and -_.(), no dot at the end',
        ],
        [
            "a registry name that is too short",
            { registry: { create: { name: "acr" } } },
            'aks-acr:registry.create.name is "acr"; use 5 to 50 letters and digits',
        ],
        [
            "a cluster name with a dash at its end",
            cluster({ name: "prod-" }),
            'aks-acr:cluster.create.name is "prod-"; use 1 to 63 letters, digits and -_, with a letter or digit at both ends',
        ],
        [
            "a DNS prefix with an underscore",
            cluster({ dnsPrefix: "a_b" }),
            'aks-acr:cluster.create.dnsPrefix is "a_b"; use 1 to 54 letters, digits and -, with a letter or digit at both ends',
        ],
        [
            "a version that YAML took for a number",
            cluster({ kubernetesVersion: 1.3 }),
            "aks-acr:cluster.create.kubernetesVersion is 1.3; use a version such as 1.35 or 1.35.6",
        ],
        [
            "an unknown upgrade channel",
            cluster({ upgradeChannel: "weekly" }),
            'aks-acr:cluster.create.upgradeChannel is "weekly"; use none or patch or stable or rapid or node-image',
        ],
        [
            "a VM size that is none",
            cluster({ systemPool: { vmSize: "large" } }),
            'aks-acr:cluster.create.systemPool.vmSize is "large"; use a VM size such as Standard_D4s_v5',
        ],
        [
            "a system pool without nodes",
            cluster({ systemPool: { count: 0 } }),
            "aks-acr:cluster.create.systemPool.count is 0; use a whole number from 1 to 1000",
        ],
        [
            "half an autoscaled pool",
            cluster({ systemPool: { minCount: 1 } }),
            "aks-acr:cluster.create.systemPool sets only one of minCount and maxCount; set both for an autoscaled pool, or none",
        ],
        [
            "an autoscaled pool upside down",
            cluster({ systemPool: { minCount: 3, maxCount: 2 } }),
            "aks-acr:cluster.create.systemPool.minCount is 3, above maxCount 2; use at most maxCount",
        ],
        [
            "a pool without a name",
            cluster({ userPools: [{}] }),
            "aks-acr:cluster.create.userPools[0].name is missing; set it to 1 to 12 lowercase letters and digits, a letter first",
        ],
        [
            "two pools of one name",
            cluster({ userPools: [{ name: "apps" }, { name: "apps" }] }),
            'aks-acr:cluster.create.userPools uses the name "apps" twice ("system" is the system pool); give each pool a name of its own',
        ],
        [
            "pools that are no list",
            cluster({ userPools: { name: "apps" } }),
            'aks-acr:cluster.create.userPools is {"name":"apps"}; use a list',
        ],
        [
            "a fourth zone",
            cluster({ systemPool: { zones: [4] } }),
            "aks-acr:cluster.create.systemPool.zones[0] is 4; use 1 or 2 or 3",
        ],
        [
            "no node for nginx",
            cluster({ systemPool: { onlyCriticalAddons: true } }),
            "aks-acr:cluster.create.systemPool.onlyCriticalAddons leaves nginx no node to run on; add a pool in userPools",
        ],
        [
            "a cluster that nobody can log in to",
            cluster({ localAccounts: false }),
            "aks-acr:cluster.create.localAccounts is false, so nobody could log in; name a Microsoft Entra group in adminGroupObjectIds",
        ],
        [
            "a group that is no object id",
            cluster({ adminGroupObjectIds: ["admins"] }),
            'aks-acr:cluster.create.adminGroupObjectIds[0] is "admins"; use an object id (GUID)',
        ],
        [
            "IP ranges on a private cluster",
            cluster({ privateCluster: true, authorizedIpRanges: ["203.0.113.0/24"] }),
            "aks-acr:cluster.create.authorizedIpRanges is set together with privateCluster; AKS allows one of them, remove the other",
        ],
        [
            "text for true or false",
            cluster({ privateCluster: "yes" }),
            'aks-acr:cluster.create.privateCluster is "yes"; use true or false',
        ],
        [
            "a build context that is not there",
            { image: { build: { context: "nowhere" } } },
            'aks-acr:image.build.context is "nowhere", which does not exist; use a directory beside Pulumi.yaml',
        ],
        [
            "a Dockerfile that is not there",
            { image: { build: { dockerfile: "Other" } } },
            'aks-acr:image.build.dockerfile is "Other", which is not in "app"; name a file there',
        ],
        [
            "an unknown platform",
            { image: { build: { platform: "windows/amd64" } } },
            'aks-acr:image.build.platform is "windows/amd64"; use linux/amd64 or linux/arm64',
        ],
        [
            "a repository in capitals",
            { image: { repository: "Nginx" } },
            'aks-acr:image.repository is "Nginx"; use lowercase letters and digits with . _ - / between',
        ],
        [
            "a tag that starts with a dash",
            { image: { tag: "-v1" } },
            'aks-acr:image.tag is "-v1"; use 1 to 128 letters, digits and _.-, not starting with . or -',
        ],
        [
            "half a pod",
            { workload: { replicas: 1.5 } },
            "aks-acr:workload.replicas is 1.5; use a whole number from 1 to 1000",
        ],
        [
            "a namespace in capitals",
            { workload: { namespace: "Web" } },
            'aks-acr:workload.namespace is "Web"; use 1 to 63 lowercase letters, digits and -',
        ],
        [
            "a quantity in words",
            { workload: { resources: { limits: { memory: "64 MB" } } } },
            'aks-acr:workload.resources.limits.memory is "64 MB"; use a Kubernetes quantity such as 100m or 64Mi',
        ],
        [
            "two ways to a registry",
            { registry: { create: {}, id: registryId } },
            "aks-acr:registry has create and id; keep exactly one of them",
        ],
        [
            "three ways to a cluster",
            { cluster: { create: {}, name: "web", id: clusterId } },
            "aks-acr:cluster has create and name and id; keep exactly one of them",
        ],
        [
            "two ways to an image",
            { image: { build: {}, import: "nginx:1.29" } },
            "aks-acr:image has build and import; keep exactly one of them",
        ],
        [
            "an adopted registry with a name that none can have",
            { resourceGroup: "team", registry: { name: "team-images" } },
            'aks-acr:registry.name is "team-images"; use 5 to 50 letters and digits',
        ],
        [
            "an adopted registry without its group, where the stack makes one of its own",
            { registry: { name: "teamimages" } },
            'aks-acr:registry.resourceGroup is missing; set it to the group that "teamimages" is in, or set aks-acr:resourceGroup',
        ],
        [
            "an adopted cluster without its group",
            { cluster: { name: "web" } },
            'aks-acr:cluster.resourceGroup is missing; set it to the group that "web" is in, or set aks-acr:resourceGroup',
        ],
        [
            "an id that is a name",
            { registry: { id: "teamimages" } },
            'aks-acr:registry.id is "teamimages"; use an id such as /subscriptions/<subscription id>/resourceGroups/<group>/providers/Microsoft.ContainerRegistry/registries/<name>',
        ],
        [
            "an id whose subscription is a name",
            { registry: { id: registryId.replace("aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb", "prod") } },
            `aks-acr:registry.id is "${registryId.replace("aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb", "prod")}"; use an id such as /subscriptions/<subscription id>/resourceGroups/<group>/providers/Microsoft.ContainerRegistry/registries/<name>`,
        ],
        [
            "an id of another type",
            { registry: { id: clusterId } },
            "aks-acr:registry.id is the id of another type, Microsoft.ContainerService/managedClusters; use an id such as /subscriptions/<subscription id>/resourceGroups/<group>/providers/Microsoft.ContainerRegistry/registries/<name>",
        ],
        [
            "a registry's id for a cluster",
            { cluster: { id: registryId } },
            "aks-acr:cluster.id is the id of another type, Microsoft.ContainerRegistry/registries; use an id such as /subscriptions/<subscription id>/resourceGroups/<group>/providers/Microsoft.ContainerService/managedClusters/<name>",
        ],
        [
            "a group beside an id, which names one itself",
            { registry: { id: registryId, resourceGroup: "team" } },
            "aks-acr:registry.resourceGroup does not go with id; remove it",
        ],
        [
            "ABAC for a registry that is made here",
            { registry: { create: {}, permissions: "abac" } },
            "aks-acr:registry.permissions does not go with create: a registry made here heeds AcrPull; make one with `az acr create --role-assignment-mode rbac-abac` and name it; remove it",
        ],
        [
            "unknown permissions",
            { registry: { id: registryId, permissions: "acl" } },
            'aks-acr:registry.permissions is "acl"; use rbac or abac',
        ],
        [
            "a kubelet's principal for a cluster that is made here",
            { cluster: { kubeletPrincipalId: "aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb" } },
            "aks-acr:cluster.kubeletPrincipalId does not go with create; remove it",
        ],
        [
            "a kubelet's principal that is a name",
            { cluster: { id: clusterId, kubeletPrincipalId: "web-agentpool" } },
            'aks-acr:cluster.kubeletPrincipalId is "web-agentpool"; use an object id (GUID)',
        ],
        [
            "a login that asks somebody",
            { cluster: { id: clusterId, login: "devicecode" } },
            'aks-acr:cluster.login is "devicecode"; use azurecli or workloadidentity or spn or msi or azurepipelines',
        ],
        [
            "an import without tag or digest",
            { image: { import: "nginx" } },
            'aks-acr:image.import is "nginx"; use an image with its tag or digest, such as nginx:1.29',
        ],
        [
            "following what is built here",
            { image: { build: {}, follow: true } },
            "aks-acr:image.follow does not go with build; remove it",
        ],
        [
            "an image by tag where the digest is asked for",
            { image: { ref: "nginx:v1" } },
            'aks-acr:image.ref is "nginx:v1"; use <repository>@sha256:<64 hexadecimal digits>, without the login server',
        ],
        [
            "an image with its login server",
            { image: { ref: `team.azurecr.io/nginx@${digest}` } },
            `aks-acr:image.ref is "team.azurecr.io/nginx@${digest}"; use <repository>@sha256:<64 hexadecimal digits>, without the login server`,
        ],
        [
            "a digest cut short",
            { image: { ref: "nginx@sha256:0123" } },
            'aks-acr:image.ref is "nginx@sha256:0123"; use <repository>@sha256:<64 hexadecimal digits>, without the login server',
        ],
        [
            "a tag for an image that is there already",
            { image: { ref: `nginx@${digest}`, tag: "v2" } },
            "aks-acr:image.tag does not go with ref; remove it",
        ],
        [
            "an unknown way to log docker in",
            { image: { login: "admin" } },
            'aks-acr:image.login is "admin"; use azure or docker',
        ],
        [
            "an unknown hand that assigns roles",
            { roleAssignments: "none" },
            'aks-acr:roleAssignments is "none"; use create or external',
        ],
        [
            "a further registry that is the main one",
            { registry: { id: registryId }, extraPullFrom: [registryId.toUpperCase()] },
            "aks-acr:extraPullFrom[0].id names a registry that is there already; remove it",
        ],
        [
            "a further registry by name",
            { extraPullFrom: ["teamimages"] },
            'aks-acr:extraPullFrom[0] is "teamimages"; use an id such as /subscriptions/<subscription id>/resourceGroups/<group>/providers/Microsoft.ContainerRegistry/registries/<name>',
        ],
        [
            "promoting what the stack runs itself",
            { image: { promote: "dev" } },
            'aks-acr:image.promote is "dev", this stack itself; name the one before it',
        ],
        [
            "promoting from a path",
            { image: { promote: "org/aks-acr/dev" } },
            'aks-acr:image.promote is "org/aks-acr/dev"; use the name of another stack of this project',
        ],
        [
            "autoscaling without an end",
            { workload: { autoscale: { minReplicas: 3 } } },
            "aks-acr:workload.autoscale.maxReplicas is missing; set it to a whole number from 1 to 1000",
        ],
        [
            "autoscaling upside down",
            { workload: { autoscale: { minReplicas: 5, maxReplicas: 3 } } },
            "aks-acr:workload.autoscale.minReplicas is 5, above maxReplicas 3; use at most maxReplicas",
        ],
        [
            "a tag that is a number",
            { tags: { cost: 42 } },
            'aks-acr:tags is {"cost":42}; use up to 50 names of 1 to 512 characters without <>%&\\?/, each with a text of up to 256',
        ],
        [
            "a wait of a day",
            { workload: { waitSeconds: 86400 } },
            "aks-acr:workload.waitSeconds is 86400; use a whole number from 0 to 3600",
        ],
    ];
    it.each(cases)("are refused with %s", (_, values, problem) => {
        expect(problemsOf(values)).toEqual([problem]);
    });

    it("take a registry by name, in the stack's group or its own", () => {
        expect(
            checkSettings({ resourceGroup: "team", registry: { name: "teamimages" } }, "dev").registry,
        ).toEqual({
            name: "teamimages",
            resourceGroup: undefined,
            permissions: "rbac",
        });
        const other = { name: "teamimages", resourceGroup: "shared" };
        expect(checkSettings({ registry: other }, "dev").registry).toMatchObject(other);
    });

    it("take ids apart", () => {
        expect(checkSettings({ cluster: { id: clusterId } }, "dev").cluster.id).toEqual({
            id: clusterId,
            subscription: "aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb",
            resourceGroup: "team",
            name: "web",
        });
    });

    it("take further registries by id, with the permissions of each where they differ", () => {
        const other = registryId.replace("teamimages", "abacimages");
        const { extraPullFrom } = checkSettings(
            { extraPullFrom: [registryId, { id: other, permissions: "abac" }] },
            "dev",
        );
        expect(extraPullFrom.map(({ id, permissions }) => [id.name, permissions])).toEqual([
            ["teamimages", "rbac"],
            ["abacimages", "abac"],
        ]);
    });

    it.each([
        "nginx:1.29",
        `nginx@${digest}`,
        `nginx:1.29@${digest}`,
        "docker.io/library/nginx:1.29",
        "localhost:5000/team/web_site:v1",
        "mcr.microsoft.com/oss/nginx/nginx:1.25.4-alpine",
    ])("import %s", (image) => {
        expect(checkSettings({ image: { import: image } }, "dev").image.import).toBe(image);
    });

    it("take zones as numbers too, as YAML gives them", () => {
        expect(
            checkSettings(cluster({ systemPool: { zones: [1, 2, 3] } }), "dev").cluster.create?.systemPool
                .zones,
        ).toEqual(["1", "2", "3"]);
    });
});
