import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { load } from "js-yaml";

/** The checkout whose workflows are under test. */
export const checkout = resolve(__dirname, "..", "..");

/** What the tests read of a step, in a workflow or in an action. */
export interface Step {
    name?: string;
    id?: string;
    uses?: string;
    run?: string;
    shell?: string;
}

/** What the tests read of a job. */
export interface Job {
    uses?: string;
    permissions?: Record<string, string>;
    concurrency?: Concurrency;
    environment?: string;
    env?: Record<string, string>;
    with?: Record<string, string>;
    needs?: string | string[];
    steps?: Step[];
    "timeout-minutes"?: number;
}

/** What the tests read of a workflow. */
export interface Workflow {
    on: Record<string, { branches?: string[]; "paths-ignore"?: string[] } | null>;
    permissions?: Record<string, string>;
    concurrency?: Concurrency;
    defaults?: { run: { shell: string } };
    jobs: Record<string, Job>;
}

interface Concurrency {
    group: string;
    "cancel-in-progress": boolean;
}

const inGithub = (...names: string[]) => join(checkout, ".github", ...names);
const read = (file: string) => load(readFileSync(file, "utf8"));

/** The script that tells which stacks a change touches. */
export const changedStacks = inGithub("scripts", "changed-stacks.sh");

/** The workflows by their files' names without `.yml`. */
export const workflows = Object.fromEntries(
    readdirSync(inGithub("workflows")).map((file) => [
        file.replace(/\.yml$/, ""),
        read(inGithub("workflows", file)) as Workflow,
    ]),
);

/** The action that prepares a job. */
export const prepare = read(inGithub("actions", "prepare", "action.yml")) as { runs: { steps: Step[] } };

/** The text of every workflow and action by its path in `.github`. */
export const texts = Object.fromEntries(
    [...Object.keys(workflows).map((name) => `workflows/${name}.yml`), "actions/prepare/action.yml"].map(
        (path) => [path, readFileSync(inGithub(path), "utf8")],
    ),
);

/** Each job as `<workflow>.<job>`. */
export const jobs: Record<string, Job> = Object.fromEntries(
    Object.entries(workflows).flatMap(([workflow, each]) =>
        Object.entries(each.jobs).map(([job, value]) => [`${workflow}.${job}`, value]),
    ),
);

/** Each step that runs a script, by `<workflow>.<job>.<step>` or `prepare.<step>`; a step without a name by its id. */
export const scripts: Record<string, string> = Object.fromEntries(
    [...Object.entries(jobs), ["prepare", prepare.runs] as const].flatMap(([job, { steps = [] }]) =>
        steps.flatMap(({ run, name, id }) => (run === undefined ? [] : [[`${job}.${name ?? id}`, run]])),
    ),
);

/** What bash is started with for a step, as GitHub does with `shell: bash`. @throws Error where there is no such step. */
export function bashArguments(step: string): string[] {
    const script = scripts[step];
    if (script === undefined) throw new Error(`there is no step ${step}`);
    return ["--noprofile", "--norc", "-eo", "pipefail", "-c", script];
}
