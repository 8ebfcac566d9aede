import { isDeepStrictEqual } from "node:util";
import { type Difference, hasUnknown, type Properties } from "../provider";

/** Inputs whose change needs a new object, from the vendor's sources (provider/pkg/provider/diff.go). */
const identity = ["metadata.name", "metadata.namespace"];
const replaceOn: Record<string, string[]> = { Deployment: ["spec.selector"] };

/** What changes of an object, by its inputs before and after, and whether that takes a new one. */
export function objectDifference(olds: Properties, news: Properties): Difference {
    const fixed = [...identity, ...(replaceOn[news.kind] ?? [])];
    const changed = changedPaths(olds, news);
    const replaces = changed.filter((path) => fixed.some((each) => `${path}.`.startsWith(`${each}.`)));
    // Two objects cannot have one name.
    const sameName = !identity.some((path) => changed.includes(path));
    return { changed, replaces, deleteBeforeReplace: replaces.length > 0 && sameName };
}

/** Inputs of an object that is taken over from the cluster: all that is not its status or the API server's own. */
export function importedInputs({ status: _, metadata, ...rest }: Properties): Properties {
    const { name, namespace, labels, annotations } = metadata;
    return { ...rest, metadata: { name, namespace, labels, annotations } };
}

/** Another cluster, told by `clusterIdentifier`, makes new objects of all; another way into the same does not. */
export function clusterDifference(olds: Properties, news: Properties): Difference {
    const changed = changedKeys(olds, news);
    return { changed, replaces: changed.filter((key) => key === "clusterIdentifier") };
}

/** Top-level names of the inputs that differ; what is not known yet counts as different. */
export const changedKeys = (before: Properties, after: Properties): string[] =>
    Object.keys({ ...before, ...after }).filter(
        (key) => hasUnknown(after[key]) || !isDeepStrictEqual(before[key], after[key]),
    );

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
