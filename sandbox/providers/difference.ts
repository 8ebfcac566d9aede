import { isDeepStrictEqual } from "node:util";
import { load } from "js-yaml";
import { type Difference, hasUnknown, type Properties } from "../provider";

/** Inputs whose change needs a new object, from the vendor's sources (provider/pkg/provider/diff.go). */
const replaceOn: Record<string, string[]> = {
    ClusterRoleBinding: ["roleRef"],
    ConfigMap: ["data", "binaryData"],
    DaemonSet: ["spec.selector"],
    Deployment: ["spec.selector"],
    Job: ["spec.completions", "spec.parallelism", "spec.selector", "spec.template"],
    PersistentVolumeClaim: ["spec"],
    Pod: ["spec"],
    RoleBinding: ["roleRef"],
    Secret: ["type", "data", "stringData"],
    Service: ["spec.clusterIP"],
    StatefulSet: [
        "spec.podManagementPolicy",
        "spec.selector",
        "spec.serviceName",
        "spec.volumeClaimTemplates",
    ],
    StorageClass: ["parameters", "provisioner"],
};
const identity = ["metadata.name", "metadata.namespace"];

/** One of Pulumi's annotations, from the first of the objects that has it. */
export const annotation = (name: string, ...objects: Properties[]): string | undefined =>
    objects.map(({ metadata }) => metadata?.annotations?.[`pulumi.com/${name}`]).find(Boolean);

/** What changes of an object, by its inputs before and after, and whether that takes a new one. */
export function objectDifference(olds: Properties, news: Properties, config: Properties = {}): Difference {
    const { enableConfigMapMutable, enableSecretMutable } = config;
    const mutable: Record<string, unknown> = {
        ConfigMap: enableConfigMapMutable,
        Secret: enableSecretMutable,
    };
    const fixed = [...identity, ...(mutable[news.kind] ? [] : (replaceOn[news.kind] ?? []))];
    const changed = changedPaths(olds, news);
    const within = (path: string, of: string) =>
        path.startsWith(of) && /^$|^[.[]/.test(path.slice(of.length));
    const replaces = changed.filter((path) => fixed.some((each) => within(path, each)));
    // Two objects cannot have one name; a generated name is new for a new object.
    const sameName = !identity.some((path) => changed.includes(path)) && !annotation("autonamed", news);
    return { changed, replaces, deleteBeforeReplace: replaces.length > 0 && sameName };
}

/** Inputs of an object that is taken over from the cluster: all that is not its status or the API server's own. */
export function importedInputs({ status: _, metadata, ...rest }: Properties): Properties {
    const { name, namespace, labels, annotations } = metadata;
    return { ...rest, metadata: { name, namespace, labels, annotations } };
}

/**
 * Another cluster makes new objects of all, and another way into the same does not. `clusterIdentifier` says which it is;
 * without one, the cluster that the kubeconfig names does.
 */
export function clusterDifference(olds: Properties, news: Properties): Difference {
    const changed = Object.keys({ ...olds, ...news }).filter(
        (key) => hasUnknown(news[key]) || !isDeepStrictEqual(olds[key], news[key]),
    );
    if (news.clusterIdentifier !== undefined && olds.clusterIdentifier !== undefined)
        return { changed, replaces: changed.filter((key) => key === "clusterIdentifier") };
    if (hasUnknown(news.kubeconfig)) return { changed, replaces: ["kubeconfig"] };
    return { changed, replaces: isDeepStrictEqual(clusterIn(olds), clusterIn(news)) ? [] : changed };
}

function clusterIn({ kubeconfig }: Properties): unknown {
    const parsed = (typeof kubeconfig === "string" ? load(kubeconfig) : kubeconfig) as Properties | undefined;
    const find = (list: string, name: string) =>
        parsed?.[list]?.find((each: Properties) => each.name === name);
    const { context } = find("contexts", parsed?.["current-context"]) ?? {};
    return find("clusters", context?.cluster)?.cluster;
}

/** Paths at which two sets of inputs differ, in the engine's syntax; what is not known yet counts as different. */
export function changedPaths(before: unknown, after: unknown, path = ""): string[] {
    if (isDeepStrictEqual(before, after) && !hasUnknown(after)) return [];
    if (!isContainer(before) || !isContainer(after) || Array.isArray(before) !== Array.isArray(after))
        return [path];
    return Object.keys({ ...before, ...after }).flatMap((key) => {
        const quoted = /[."[\]]/.test(key) ? `["${key.replaceAll('"', '\\"')}"]` : `.${key}`;
        const step = Array.isArray(after) ? `[${key}]` : quoted;
        return changedPaths(before[key], after[key], path ? path + step : step.replace(/^\./, ""));
    });
}

const isContainer = (value: unknown): value is Properties => typeof value === "object" && value !== null;

/**
 * The inputs with what has changed in the live object since it was last seen. What the API server fills in, or writes
 * another way than the program, was so before and is no drift.
 */
export function refreshed(inputs: unknown, before: unknown, live: unknown): unknown {
    if (isDeepStrictEqual(before, live)) return inputs;
    if (!isContainer(inputs) || !isContainer(before) || !isContainer(live)) return live;
    const lists = [inputs, before, live].filter(Array.isArray);
    if (lists.some(({ length }) => lists.length < 3 || length !== lists[0]?.length)) return live;
    const entries = Object.keys(inputs).map((key) => [key, refreshed(inputs[key], before[key], live[key])]);
    const kept = entries.filter(([, value]) => value !== undefined);
    return lists.length > 0 ? kept.map(([, value]) => value) : Object.fromEntries(kept);
}
