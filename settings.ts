import { existsSync } from "node:fs";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import {
    type Check,
    flag,
    integer,
    list,
    object,
    objectId,
    oneOf,
    optional,
    quantity,
    type ResourceId,
    refine,
    resourceId,
    type Shape,
    show,
    text,
    variants,
} from "./checks";
import { clusterLogins } from "./components/kubeconfig";
import { UserError } from "./components/userError";

/** The stack's settings, checked and complete: every default is filled in. README, Config describes each key. */
export type Settings = ReturnType<ReturnType<typeof schema>>;

/**
 * Reads the stack's configuration (namespace `aks-acr`).
 *
 * @throws UserError that lists every problem at once, each with its key, what was found and what to use.
 */
export function readSettings(): Settings {
    return checkSettings(configOf(pulumi.getProject()), pulumi.getStack());
}

/** The configuration in a namespace, such as a provider's, by key without the namespace. */
export function configOf(namespace: string): Record<string, unknown> {
    const prefix = `${namespace}:`;
    const entries = Object.entries(pulumi.runtime.allConfig()).filter(([key]) => key.startsWith(prefix));
    return Object.fromEntries(entries.map(([key, value]) => [key.slice(prefix.length), parsed(value)]));
}

/** The check behind {@link readSettings}: `values` are the configuration's keys without their namespace. */
export function checkSettings(values: Record<string, unknown>, stack: string): Settings {
    const problems: string[] = [];
    const settings = schema(stack)(values, "aks-acr:", problems);
    refuse(problems);
    return settings;
}

/**
 * Ends the run where there are problems.
 *
 * @throws UserError that lists all of them.
 */
export function refuse(problems: string[]): void {
    if (problems.length === 0) return;
    const many = problems.length > 1 ? `${problems.length} problems` : "A problem";
    throw new UserError(
        `${many}; nothing was changed.\n${problems.map((problem) => `  - ${problem}`).join("\n")}\n` +
            "See the settings with `pulumi config`, change one with `pulumi config set --path 'aks-acr:<key>' <value>`.",
    );
}

const groupName = text(/^[-\w.()]{0,89}[-\w()]$/, "1 to 90 letters, digits and -_.(), no dot at the end");
const registryName = text(/^[a-zA-Z0-9]{5,50}$/, "5 to 50 letters and digits");
const registryId = resourceId("Microsoft.ContainerRegistry/registries");
const permissions = oneOf(["rbac", "abac"], "rbac");
const repository = "[a-z0-9]+([._/-][a-z0-9]+)*";
const existing = ["name", "id"] as const;
const pushed = ["build", "import"] as const;

/** Every key, its rule and its default. The rules on names are Azure's ("Resource naming restrictions"). */
function schema(stack: string) {
    const shape = object({
        resourceGroup: optional(groupName),
        registry: variants(
            {
                create: object({
                    name: optional(registryName),
                    sku: oneOf(["Basic", "Standard", "Premium"], "Basic"),
                }),
                name: registryName,
                id: registryId,
            },
            {
                resourceGroup: { ways: ["name"], is: optional(groupName) },
                permissions: {
                    ways: existing,
                    is: permissions,
                    why: "a registry made here heeds AcrPull; make one with `az acr create --role-assignment-mode rbac-abac` and name it",
                },
            },
        ),
        cluster: variants(
            { create: clusterToCreate(stack), name: clusterName(), id: resourceId(clusterType) },
            {
                resourceGroup: { ways: ["name"], is: optional(groupName) },
                kubeletPrincipalId: { ways: existing, is: optional(objectId) },
                login: { ways: ["create", ...existing], is: oneOf(clusterLogins, "azurecli") },
            },
        ),
        image: variants(
            {
                build: buildContext,
                import: text(
                    /^([\w.-]+(:\d+)?\/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:\w[\w.-]{0,127}(@sha256:[\da-f]{64})?|@sha256:[\da-f]{64})$/,
                    "an image with its tag or digest, such as nginx:1.29",
                ),
                promote: text(
                    /^[a-zA-Z0-9][-\w.]{0,99}(?<!\.)$/,
                    "the name of another stack of this project",
                ),
                ref: text(
                    new RegExp(`^(?![^/]*\\.[^/]*/)${repository}@sha256:[\\da-f]{64}$`),
                    "<repository>@sha256:<64 hexadecimal digits>, without the login server",
                ),
            },
            {
                repository: {
                    ways: pushed,
                    is: text(
                        new RegExp(`^${repository}$`),
                        "lowercase letters and digits with . _ - / between",
                        "nginx",
                    ),
                },
                tag: {
                    ways: pushed,
                    is: text(
                        /^\w[\w.-]{0,127}$/,
                        "1 to 128 letters, digits and _.-, not starting with . or -",
                        "v1",
                    ),
                },
                login: { ways: pushed, is: oneOf(["azure", "docker"], "azure") },
                follow: { ways: ["import"], is: flag(false) },
            },
        ),
        workload: object({
            replicas: integer(1, 1000, 2),
            autoscale: optional(
                refine(
                    object({
                        minReplicas: integer(1, 1000, 2),
                        maxReplicas: integer(1, 1000),
                        cpuPercent: integer(1, 100, 70),
                    }),
                    ({ minReplicas, maxReplicas }, key, problems) => {
                        if (minReplicas > maxReplicas)
                            problems.push(
                                `${key}.minReplicas is ${minReplicas}, above maxReplicas ${maxReplicas}; use at most maxReplicas`,
                            );
                    },
                ),
            ),
            namespace: text(
                /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/,
                "1 to 63 lowercase letters, digits and -",
                "nginx",
            ),
            resources: object({
                requests: object({ cpu: quantity("50m"), memory: quantity("32Mi") }),
                limits: object({ cpu: quantity("250m"), memory: quantity("128Mi") }),
            }),
            waitSeconds: optional(integer(0, 3600)),
        }),
        protect: flag(false),
        tags,
        roleAssignments: oneOf(["create", "external"], "create"),
        extraPullFrom: list(registryToPullFrom),
    });
    return refine(shape, (settings, key, problems) => {
        const { cluster, registry, resourceGroup, image, extraPullFrom } = settings;
        for (const [name, { name: value, resourceGroup: own }] of Object.entries({ cluster, registry })) {
            if (value === undefined || (own ?? resourceGroup) !== undefined) continue;
            problems.push(
                `${key}${name}.resourceGroup is missing; set it to the group that ${show(value)} is in, or set ${key}resourceGroup`,
            );
        }
        if (image.promote === stack)
            problems.push(`${key}image.promote is ${show(stack)}, this stack itself; name the one before it`);
        const ids = [registry.id, ...extraPullFrom.map(({ id }) => id)].map((each) => each?.id.toLowerCase());
        extraPullFrom.forEach(({ id }, index) => {
            if (ids.indexOf(id.id.toLowerCase()) !== index + 1)
                problems.push(
                    `${key}extraPullFrom[${index}].id names a registry that is there already; remove it`,
                );
        });
    });
}

/** Names and values of tags ("Use tags to organize your Azure resources"). */
const tags: Check<Record<string, string>> = (value = {}, key, problems) => {
    const entries = typeof value === "object" && value !== null ? Object.entries(value) : [];
    const isWrong = ([name, each]: [string, unknown]) =>
        !/^[^<>%&\\?/]{1,512}$/.test(name) || typeof each !== "string" || each.length > 256;
    if (typeof value !== "object" || Array.isArray(value) || entries.length > 50 || entries.some(isWrong))
        problems.push(
            `${key} is ${show(value)}; use up to 50 names of 1 to 512 characters without <>%&\\?/, each with a text of up to 256`,
        );
    return Object.fromEntries(entries);
};

/** An id, or an object with that and the registry's permissions. */
const registryToPullFrom: Check<{ id: ResourceId; permissions: "rbac" | "abac" }> = (value, key, problems) =>
    typeof value === "string"
        ? { id: registryId(value, key, problems), permissions: "rbac" }
        : object({ id: registryId, permissions })(value, key, problems);

const clusterType = "Microsoft.ContainerService/managedClusters";

function clusterName(initial?: string) {
    return text(
        /^[a-zA-Z0-9]([-_a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$/,
        "1 to 63 letters, digits and -_, with a letter or digit at both ends",
        initial,
    );
}

function clusterToCreate(stack: string) {
    const shape = object({
        name: clusterName(`nginx-${stack.replace(/[^a-zA-Z0-9]+/g, "-")}`.slice(0, 63).replace(/-+$/, "")),
        dnsPrefix: optional(
            text(
                /^[a-zA-Z0-9]([-a-zA-Z0-9]{0,52}[a-zA-Z0-9])?$/,
                "1 to 54 letters, digits and -, with a letter or digit at both ends",
            ),
        ),
        tier: oneOf(["Free", "Standard", "Premium"], "Free"),
        kubernetesVersion: optional(text(/^\d+\.\d+(\.\d+)?$/, "a version such as 1.35 or 1.35.6")),
        upgradeChannel: oneOf(["none", "patch", "stable", "rapid", "node-image"], "patch"),
        systemPool: pool({ onlyCriticalAddons: flag(false) }, 1),
        userPools: list(
            pool(
                {
                    name: text(
                        /^[a-z][a-z0-9]{0,11}$/,
                        "1 to 12 lowercase letters and digits, a letter first",
                    ),
                },
                0,
            ),
        ),
        localAccounts: flag(true),
        adminGroupObjectIds: list(objectId),
        authorizedIpRanges: list(text(/^\d{1,3}(\.\d{1,3}){3}\/\d{1,2}$/, "a CIDR such as 203.0.113.0/24")),
        privateCluster: flag(false),
    });
    return refine(shape, (cluster, key, problems) => {
        if (cluster.privateCluster && cluster.authorizedIpRanges.length > 0) {
            problems.push(
                `${key}.authorizedIpRanges is set together with privateCluster; AKS allows one of them, remove the other`,
            );
        }
        if (!cluster.localAccounts && cluster.adminGroupObjectIds.length === 0) {
            problems.push(
                `${key}.localAccounts is false, so nobody could log in; name a Microsoft Entra group in adminGroupObjectIds`,
            );
        }
        const names = ["system", ...cluster.userPools.map((userPool) => userPool.name)];
        for (const name of new Set(names.filter((each, index) => names.indexOf(each) !== index))) {
            problems.push(
                `${key}.userPools uses the name "${name}" twice ("system" is the system pool); give each pool a name of its own`,
            );
        }
        if (cluster.systemPool.onlyCriticalAddons && cluster.userPools.length === 0) {
            problems.push(
                `${key}.systemPool.onlyCriticalAddons leaves nginx no node to run on; add a pool in userPools`,
            );
        }
    });
}

/** An agent pool; `least` is how many nodes AKS lets it have ("Use system node pools"). */
function pool<S extends Shape>(shape: S, least: number) {
    const common = {
        vmSize: text(/^Standard_[A-Za-z0-9_-]+$/, "a VM size such as Standard_D4s_v5", "Standard_D4s_v5"),
        count: integer(least, 1000, 2),
        minCount: optional(integer(least, 1000)),
        maxCount: optional(integer(1, 1000)),
        zones: list(oneOf(["1", "2", "3"])),
        maxPods: optional(integer(10, 250)),
        osDiskType: oneOf(["Managed", "Ephemeral"], "Managed"),
    };
    return refine(object({ ...common, ...shape }), (value, key, problems) => {
        const { minCount, maxCount } = value as { minCount?: number; maxCount?: number };
        if ((minCount === undefined) !== (maxCount === undefined)) {
            problems.push(
                `${key} sets only one of minCount and maxCount; set both for an autoscaled pool, or none`,
            );
        } else if (minCount !== undefined && maxCount !== undefined && minCount > maxCount) {
            problems.push(`${key}.minCount is ${minCount}, above maxCount ${maxCount}; use at most maxCount`);
        }
    });
}

const buildContext = refine(
    object({
        context: text(/./, "a directory", "app"),
        dockerfile: text(/./, "a file in the build context", "Dockerfile"),
        platform: optional(oneOf(["linux/amd64", "linux/arm64"])),
    }),
    ({ context, dockerfile }, key, problems) => {
        const missing = !existsSync(context)
            ? "context"
            : !existsSync(join(context, dockerfile))
              ? "dockerfile"
              : undefined;
        if (missing === "context")
            problems.push(
                `${key}.context is ${show(context)}, which does not exist; use a directory beside Pulumi.yaml`,
            );
        if (missing === "dockerfile")
            problems.push(
                `${key}.dockerfile is ${show(dockerfile)}, which is not in ${show(context)}; name a file there`,
            );
    },
);

/** Objects, lists and truth values arrive as JSON; anything else is the text that was set, so that a name of digits stays a name. */
function parsed(value: string): unknown {
    return /^\s*([{[]|(true|false)$)/.test(value) ? JSON.parse(value) : value;
}
