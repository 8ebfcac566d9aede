import { existsSync } from "node:fs";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";

/** The stack's settings, checked and complete: every default is filled in. README, Config describes each key. */
export type Settings = ReturnType<ReturnType<typeof schema>>;

/**
 * Reads the stack's configuration (namespace `aks-acr`).
 *
 * @throws pulumi.RunError that lists every problem at once, each with its key, what was found and what to use.
 */
export function readSettings(): Settings {
    const namespace = `${pulumi.getProject()}:`;
    const values = Object.entries(pulumi.runtime.allConfig())
        .filter(([key]) => key.startsWith(namespace))
        .map(([key, value]) => [key.slice(namespace.length), parsed(value)]);
    return checkSettings(Object.fromEntries(values), pulumi.getStack());
}

/** The check behind {@link readSettings}: `values` are the configuration's keys without their namespace. */
export function checkSettings(values: Record<string, unknown>, stack: string): Settings {
    const problems: string[] = [];
    const settings = schema(stack)(values, "aks-acr:", problems);
    if (problems.length > 0) {
        const many = problems.length > 1 ? `${problems.length} settings are` : "A setting is";
        throw new pulumi.RunError(
            `${many} wrong; nothing was changed.\n${problems.map((problem) => `  - ${problem}`).join("\n")}\n` +
                `See them with \`pulumi config\`, change one with \`pulumi config set --path 'aks-acr:<key>' <value>\`.`,
        );
    }
    return settings;
}

/** Every key, its rule and its default. The rules on names are Azure's ("Resource naming restrictions"). */
function schema(stack: string) {
    return object({
        resourceGroup: optional(
            text(/^[-\w.()]{0,89}[-\w()]$/, "1 to 90 letters, digits and -_.(), no dot at the end"),
        ),
        registry: variants({
            create: object({
                name: optional(text(/^[a-zA-Z0-9]{5,50}$/, "5 to 50 letters and digits")),
                sku: oneOf(["Basic", "Standard", "Premium"], "Basic"),
            }),
        }),
        cluster: variants({ create: clusterToCreate(stack) }),
        image: object({
            build: buildContext,
            repository: text(
                /^[a-z0-9]+([._/-][a-z0-9]+)*$/,
                "lowercase letters and digits with . _ - / between",
                "nginx",
            ),
            tag: text(
                /^\w[\w.-]{0,127}$/,
                "1 to 128 letters, digits and _.-, not starting with . or -",
                "v1",
            ),
        }),
        workload: object({
            replicas: integer(1, 1000, 2),
            namespace: text(
                /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/,
                "1 to 63 lowercase letters, digits and -",
                "nginx",
            ),
            resources: object({
                requests: object({ cpu: quantity("50m"), memory: quantity("32Mi") }),
                limits: object({ cpu: quantity("250m"), memory: quantity("128Mi") }),
            }),
        }),
    });
}

function clusterToCreate(stack: string) {
    const shape = object({
        name: text(
            /^[a-zA-Z0-9]([-_a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$/,
            "1 to 63 letters, digits and -_, with a letter or digit at both ends",
            `nginx-${stack.replace(/[^a-zA-Z0-9]+/g, "-")}`.slice(0, 63).replace(/-+$/, ""),
        ),
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
        adminGroupObjectIds: list(text(/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i, "an object id (GUID)")),
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

// A check turns a raw value into a typed one and adds to `problems` what is wrong with it.
type Check<T> = (value: unknown, key: string, problems: string[]) => T;
type Shape = Record<string, Check<unknown>>;
type Checked<S extends Shape> = { [K in keyof S]: ReturnType<S[K]> };

const show = (value: unknown) => JSON.stringify(value) ?? "not set";

function wrong<T>(value: unknown, key: string, problems: string[], use: string): T {
    problems.push(
        value === undefined ? `${key} is missing; set it to ${use}` : `${key} is ${show(value)}; use ${use}`,
    );
    return undefined as T;
}

function text(pattern: RegExp, use: string, initial?: string): Check<string> {
    return (value = initial, key, problems) =>
        typeof value === "string" && pattern.test(value) ? value : wrong(value, key, problems, use);
}

function oneOf<const T extends string>(allowed: readonly T[], initial?: T): Check<T> {
    return (value = initial, key, problems) =>
        allowed.find((each) => each === String(value)) ?? wrong(value, key, problems, allowed.join(" or "));
}

function integer(least: number, most: number, initial?: number): Check<number> {
    return (value = initial, key, problems) =>
        Number.isInteger(value) && Number(value) >= least && Number(value) <= most
            ? Number(value)
            : wrong(value, key, problems, `a whole number from ${least} to ${most}`);
}

function flag(initial: boolean): Check<boolean> {
    return (value = initial, key, problems) =>
        typeof value === "boolean" ? value : wrong(value, key, problems, "true or false");
}

/** A Kubernetes quantity ("Resource units in Kubernetes"). */
function quantity(initial: string): Check<string> {
    return text(/^\d+(\.\d+)?(m|[kMGT]i?)?$/, "a Kubernetes quantity such as 100m or 64Mi", initial);
}

function optional<T>(check: Check<T>): Check<T | undefined> {
    return (value, key, problems) =>
        value === undefined || value === "" ? undefined : check(value, key, problems);
}

function list<T>(check: Check<T>): Check<T[]> {
    return (value = [], key, problems) =>
        Array.isArray(value)
            ? value.map((each, index) => check(each, `${key}[${index}]`, problems))
            : wrong<T[]>(value, key, problems, "a list");
}

function object<S extends Shape>(shape: S): Check<Checked<S>> {
    return (value = {}, key, problems) => {
        const given =
            typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
        if (!given) wrong(value, key, problems, `an object with ${Object.keys(shape).join(", ")}`);
        const at = (name: string) => (key.endsWith(":") ? key + name : `${key}.${name}`);
        for (const name of Object.keys(given ?? {}).filter((each) => !(each in shape))) {
            problems.push(
                `${at(name)} is not a known key; use ${Object.keys(shape).join(", ")}, or remove it`,
            );
        }
        const entries = Object.entries(shape).map(([name, check]) => [
            name,
            check((given as Record<string, unknown> | undefined)?.[name], at(name), problems),
        ]);
        return Object.fromEntries(entries);
    };
}

/** Exactly one of several ways, named by its key; without any, the first. */
function variants<S extends Shape>(shape: S): Check<Checked<S>> {
    return (value, key, problems) => {
        const names = Object.keys(shape);
        const given = Object.keys((value ?? {}) as object).filter((name) => names.includes(name));
        if (given.length > 1) problems.push(`${key} has ${given.join(" and ")}; keep exactly one of them`);
        return object(shape)(value, key, problems);
    };
}

function refine<T>(check: Check<T>, rule: (value: T, key: string, problems: string[]) => void): Check<T> {
    return (value, key, problems) => {
        const before = problems.length;
        const checked = check(value, key, problems);
        // A rule between keys says nothing useful about keys that are wrong themselves.
        if (problems.length === before) rule(checked, key, problems);
        return checked;
    };
}

/** Objects and lists arrive as JSON; anything else is the text that was set, so that a name of digits stays a name. */
function parsed(value: string): unknown {
    return /^\s*[{[]/.test(value) ? JSON.parse(value) : value;
}
