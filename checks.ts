// How a raw value becomes a typed one: the words that settings.ts is written in.

/** Turns a raw value into a typed one, and adds to `problems` what is wrong with it: key, what was found, what to use. */
export type Check<T> = (value: unknown, key: string, problems: string[]) => T;
export type Shape = Record<string, Check<unknown>>;
export type Checked<S extends Shape> = { [K in keyof S]: ReturnType<S[K]> };

/** How a value is quoted in a problem. */
export const show = (value: unknown) => JSON.stringify(value) ?? "not set";

function wrong<T>(value: unknown, key: string, problems: string[], use: string): T {
    problems.push(
        value === undefined ? `${key} is missing; set it to ${use}` : `${key} is ${show(value)}; use ${use}`,
    );
    return undefined as T;
}

/** A text that matches the pattern; `use` says so in words, `initial` stands in where nothing is set. */
export function text(pattern: RegExp, use: string, initial?: string): Check<string> {
    return (value = initial, key, problems) =>
        typeof value === "string" && pattern.test(value) ? value : wrong(value, key, problems, use);
}

export function oneOf<const T extends string>(allowed: readonly T[], initial?: T): Check<T> {
    return (value = initial, key, problems) =>
        allowed.find((each) => each === String(value)) ?? wrong(value, key, problems, allowed.join(" or "));
}

export function integer(least: number, most: number, initial?: number): Check<number> {
    return (value = initial, key, problems) =>
        Number.isInteger(value) && Number(value) >= least && Number(value) <= most
            ? Number(value)
            : wrong(value, key, problems, `a whole number from ${least} to ${most}`);
}

export function flag(initial: boolean): Check<boolean> {
    return (value = initial, key, problems) =>
        typeof value === "boolean" ? value : wrong(value, key, problems, "true or false");
}

/** A Kubernetes quantity ("Resource units in Kubernetes"). */
export function quantity(initial: string): Check<string> {
    return text(/^\d+(\.\d+)?(m|[kMGT]i?)?$/, "a Kubernetes quantity such as 100m or 64Mi", initial);
}

/** The parts of an Azure resource id. */
export interface ResourceId {
    id: string;
    subscription: string;
    resourceGroup: string;
    name: string;
}

const provided = /^\/subscriptions\/([^/]+)\/resourceGroups\/([^/]+)\/providers\/([^/]+\/[^/]+)\/([^/]+)$/i;

/** The id of a resource of this type, such as `Microsoft.ContainerRegistry/registries`. */
export function resourceId(type: string): Check<ResourceId> {
    const use = `/subscriptions/<subscription id>/resourceGroups/<group>/providers/${type}/<name>`;
    return (value, key, problems) => {
        const [id, subscription = "", resourceGroup = "", found = "", name = ""] =
            (typeof value === "string" && provided.exec(value)) || [];
        const isGuid = guidPattern.test(subscription);
        if (id === undefined || !isGuid) return wrong(value, key, problems, `an id such as ${use}`);
        if (found.toLowerCase() === type.toLowerCase()) return { id, subscription, resourceGroup, name };
        problems.push(`${key} is the id of another type, ${found}; use an id such as ${use}`);
        return undefined as unknown as ResourceId;
    };
}

const guidPattern = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;

/** An object id of Microsoft Entra. */
export const objectId = text(guidPattern, "an object id (GUID)");

export function optional<T>(check: Check<T>): Check<T | undefined> {
    return (value, key, problems) =>
        value === undefined || value === "" ? undefined : check(value, key, problems);
}

export function list<T>(check: Check<T>): Check<T[]> {
    return (value = [], key, problems) =>
        Array.isArray(value)
            ? value.map((each, index) => check(each, `${key}[${index}]`, problems))
            : wrong<T[]>(value, key, problems, "a list");
}

/** An object with these keys and no others; `known` are further keys that are reported as misplaced, not as unknown. */
export function object<S extends Shape>(shape: S, known: Record<string, string> = {}): Check<Checked<S>> {
    return (value = {}, key, problems) => {
        const given = isObject(value) ? value : undefined;
        const names = [...new Set([...Object.keys(shape), ...Object.keys(known)])].join(", ");
        if (!given) wrong(value, key, problems, `an object with ${names}`);
        const at = (name: string) => (key.endsWith(":") ? key + name : `${key}.${name}`);
        for (const name of Object.keys(given ?? {}).filter((each) => !Object.hasOwn(shape, each))) {
            problems.push(
                known[name] !== undefined
                    ? `${at(name)} ${known[name]}; remove it`
                    : `${at(name)} is not a known key; use ${names}, or remove it`,
            );
        }
        const entries = Object.entries(shape).map(([name, check]) => [
            name,
            check(given?.[name], at(name), problems),
        ]);
        return Object.fromEntries(entries);
    };
}

/** Keys that go with some of the ways only. */
export type Companions<W extends Shape> = Record<
    string,
    { ways: readonly (keyof W & string)[]; is: Check<unknown>; why?: string }
>;
type Chosen<W extends Shape, C extends Companions<W>> = {
    [K in keyof W]?: ReturnType<W[K]> | undefined;
} & { [K in keyof C]?: ReturnType<C[K]["is"]> | undefined };

/** Exactly one of several ways, named by its key; without any, the first. Its companions are there with it, with no other. */
export function variants<W extends Shape, const C extends Companions<W>>(
    ways: W,
    companions: C,
): Check<Chosen<W, C>> {
    const names = Object.keys(ways);
    return (value, key, problems) => {
        const given = names.filter((name) => isObject(value) && Object.hasOwn(value, name));
        if (given.length > 1) {
            problems.push(`${key} has ${given.join(" and ")}; keep exactly one of them`);
            return {} as Chosen<W, C>;
        }
        const way = given[0] ?? names[0] ?? "";
        const fits = Object.entries(companions).filter(([, { ways }]) => ways.includes(way));
        const others = Object.entries(companions).filter(([, { ways }]) => !ways.includes(way));
        const shape = { [way]: ways[way] as Check<unknown> };
        for (const [name, { is }] of fits) shape[name] = is;
        const misplaced = others.map(([name, { why }]) => [
            name,
            `does not go with ${way}${why ? `: ${why}` : ""}`,
        ]);
        const known = {
            ...Object.fromEntries(names.map((name) => [name, ""])),
            ...Object.fromEntries(misplaced),
        };
        return object(shape, known)(value, key, problems) as Chosen<W, C>;
    };
}

/** Adds a rule between keys; it is asked only where each of them is right by itself. */
export function refine<T>(
    check: Check<T>,
    rule: (value: T, key: string, problems: string[]) => void,
): Check<T> {
    return (value, key, problems) => {
        const before = problems.length;
        const checked = check(value, key, problems);
        if (problems.length === before) rule(checked, key, problems);
        return checked;
    };
}

function isObject(value: unknown): value is Record<string, unknown> {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}
