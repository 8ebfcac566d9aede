import { stripVTControlCharacters } from "node:util";
import { code, codes, masked, secret } from "./publicText";

// What is used of the engine's output; PreviewDigest in Pulumi's Go package pkg/v3/display has all of it.

/** A resource as it is, or as the update would leave it. */
export interface State {
    /** False for a component. */
    custom?: boolean;
    inputs?: unknown;
    outputs?: unknown;
    dependencies?: string[];
    deletedWith?: string;
    replaceWith?: string[];
}

/** One operation of the update. */
export interface Step {
    op: string;
    urn: string;
    oldState?: State;
    newState?: State;
    diffReasons?: string[];
    replaceReasons?: string[];
    /** By property path; null where the engine compared nothing. */
    detailedDiff?: Record<string, { kind: string; inputDiff: boolean }> | null;
}

/** What `pulumi preview --json` prints. */
export interface Preview {
    steps?: Step[];
    diagnostics?: { severity?: string; message?: string }[];
    changeSummary?: object;
}

/** The difference at one property path; undefined where there is nothing. Secrets in it are masked. */
export interface Change {
    path: string;
    before: unknown;
    after: unknown;
    /** Whether it is why the resource is replaced. */
    isForcing: boolean;
}

/** Reads what `pulumi preview --json` printed; undefined if the text is something else. */
export function readPreview(text: string): Preview | undefined {
    try {
        const preview: Preview = JSON.parse(text);
        const { steps = [], diagnostics = [], changeSummary } = preview;
        const isPreview = steps.every(({ urn }) => typeof urn === "string") && Array.isArray(diagnostics);
        return isPreview && (steps.length + diagnostics.length > 0 || changeSummary) ? preview : undefined;
    } catch {
        return undefined;
    }
}

/** The messages of one severity ("error", "warning"), each once, without colours and Node's stack traces. */
export function messages({ diagnostics = [] }: Preview, severity: string): string[] {
    const noise = /^(error|warning): |\n +at .*:\d+:\d+\)?(?= \{$|$)/gm;
    const all = diagnostics
        .filter((each) => each.severity === severity)
        .map(({ message = "" }) => stripVTControlCharacters(message).replace(noise, "").trim());
    return [...new Set(all)];
}

/** The engine's word for a value that it does not know yet, and the report's. */
const unknown = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
const later = "known after the update";

/** A change in one line of Markdown. */
export function described({ path, before, after, isForcing }: Change): string {
    const name = `${isForcing ? "forced by " : ""}${code(path, 120)}`;
    const json = (value: unknown) => (JSON.stringify(value) ?? "").replaceAll(unknown, later);
    const plain = (value: unknown) => (typeof value === "string" ? value : json(value));
    const shown = (text: string) => (after === unknown ? later : text);
    if (before === undefined)
        return after === undefined ? name : `${name} set to ${shown(code(plain(after)))}`;
    if (after === undefined) return `${name} removed, was ${code(plain(before))}`;
    // The number 2 and the text "2" differ in JSON only.
    const text = before !== after && plain(before) === plain(after) ? json : plain;
    const [old, next] = codes(text(before), text(after));
    return `${name} ${old} → ${shown(next)}`;
}

/** What a step changes, down to the values that differ; without what only Azure or Kubernetes computes. */
export function changesOf(step: Step): Change[] {
    const { diffReasons = [], replaceReasons = [] } = step;
    const inputs = { before: masked(step.oldState?.inputs), after: masked(step.newState?.inputs) };
    const state = masked(step.oldState?.outputs);
    const detailed = Object.entries(step.detailedDiff ?? {});
    const coarse = [...new Set([...replaceReasons, ...diffReasons])].map((path) => {
        return [
            path,
            { kind: replaceReasons.includes(path) ? "replace" : "update", inputDiff: true },
        ] as const;
    });
    return (detailed.length > 0 ? detailed : coarse).flatMap(([path, { kind, inputDiff }]) => {
        const isForcing = kind.endsWith("replace");
        const [before, after] = [at(inputs.before, path), at(inputs.after, path)];
        if (!isForcing && before === undefined && after === undefined) return [];
        const pairs = differences(path, inputDiff ? before : (at(state, path) ?? before), after);
        const visible = pairs.filter((pair) => pair.before !== secret || pair.after !== secret);
        // Two secrets may be equal; they are what differs if nothing else does.
        const found = visible.length > 0 ? visible : pairs;
        const all = found.length === 0 && isForcing ? [{ path, before, after }] : found;
        return all.map((pair) => ({ ...pair, isForcing }));
    });
}

function differences(path: string, before: unknown, after: unknown): Omit<Change, "isForcing">[] {
    if (isTree(before) && isTree(after) && Array.isArray(before) === Array.isArray(after)) {
        const step = (key: string) =>
            Array.isArray(before) ? `[${key}]` : /^[\w$-]+$/.test(key) ? `.${key}` : `["${key}"]`;
        return [...new Set([...Object.keys(before), ...Object.keys(after)])].flatMap((key) =>
            differences(path + step(key), before[key], after[key]),
        );
    }
    const isEqual = before !== secret && JSON.stringify(before) === JSON.stringify(after);
    return isEqual ? [] : [{ path, before, after }];
}

/** The value at one of the engine's property paths, such as `spec.ports[0]` or `metadata.labels["example.com/team"]`. */
function at(root: unknown, path: string): unknown {
    const keys = [...path.matchAll(/\["((?:\\"|[^"])*)"\]|\[(\d+)\]|([^.[\]]+)/g)];
    return keys.reduce((value: unknown, [, quoted, index, name]) => {
        // What is in a secret is secret.
        if (value === secret) return secret;
        const key = quoted?.replaceAll('\\"', '"') ?? index ?? name ?? "";
        return isTree(value) && Object.hasOwn(value, key) ? value[key] : undefined;
    }, root);
}

const isTree = (value: unknown): value is Record<string, unknown> =>
    typeof value === "object" && value !== null;
