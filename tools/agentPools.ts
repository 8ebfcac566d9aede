import { isDeepStrictEqual } from "node:util";
import type { State, Step } from "./previewChanges";

/** One of a cluster's inline pools, as its inputs have them. */
type Pool = { name?: string };

/**
 * A cluster's step as if it had been refreshed without the pools that are resources of their own. A refresh reads all pools into
 * the cluster's inline list; an update leaves them out of that again, and AKS leaves them as they are.
 *
 * @param steps all steps of the preview.
 * @returns undefined where the step is about nothing else.
 */
export function withoutOwnPools(step: Step, steps: Step[]): Step | undefined {
    const before = inlinePools(step.oldState);
    const after = inlinePools(step.newState);
    if (step.op !== "update" || !before || !after) return step;
    const own = new Set(
        steps.flatMap((each) => (each.op === "delete" ? [] : (poolName(each.newState) ?? []))),
    );
    const listed = after.map(({ name }) => name);
    const kept = before.filter(({ name = "" }) => !own.has(name) || listed.includes(name));
    if (kept.length === before.length) return step;
    const refreshed = steps.find(({ op, urn }) => op === "refresh" && urn === step.urn);
    const known = refreshed && [...(inlinePools(refreshed.oldState) ?? []), ...after];
    // AKS has an order of its own.
    kept.sort((a, b) => listed.indexOf(a.name) - listed.indexOf(b.name));
    const said = known ? kept.map((pool) => onlyKnown(pool, known)) : kept;
    const elsewhere = Object.entries(step.detailedDiff ?? {}).filter(
        ([path]) => !/^agentPoolProfiles\b/.test(path),
    );
    if (elsewhere.length === 0 && isDeepStrictEqual(said, after)) return undefined;
    const inputs = { ...(step.oldState?.inputs as object), agentPoolProfiles: said };
    const detailedDiff = Object.fromEntries([
        ...elsewhere,
        ["agentPoolProfiles", { kind: "update", inputDiff: true }],
    ]);
    return { ...step, oldState: { ...step.oldState, inputs }, detailedDiff };
}

/** A pool without what only AKS says about it: what neither the inputs before the refresh nor those to come name. */
function onlyKnown(pool: Pool, known: Pool[]): Pool {
    const names = known.filter(({ name }) => name === pool.name).flatMap((each) => Object.keys(each));
    return Object.fromEntries(Object.entries(pool).filter(([key]) => names.includes(key)));
}

function inlinePools(state: State | undefined): Pool[] | undefined {
    const { agentPoolProfiles } = (state?.inputs ?? {}) as { agentPoolProfiles?: unknown };
    return Array.isArray(agentPoolProfiles) ? agentPoolProfiles : undefined;
}

/** The name of an agent pool that is a resource of its own. */
function poolName(state: State | undefined): string | undefined {
    return ((state?.inputs ?? {}) as { agentPoolName?: string }).agentPoolName;
}
