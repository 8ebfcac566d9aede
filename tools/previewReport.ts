import { readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { parseArgs } from "node:util";
import { withoutOwnPools } from "./agentPools";
import { changesOf, described, messages, readPreview, type Step } from "./previewChanges";
import { block, code } from "./publicText";

// Says in a pull request what a change does to the stack: Markdown from what `pulumi preview --json` printed.
const usage = "node --import tsx tools/previewReport.ts [--allow-replace] [--stack <name>] [file]";

/** What people call a type, worst first, and what its loss means where it must not happen by accident. */
const kinds: Record<string, { name: string; loss?: string }> = {
    "resources:ResourceGroup": { name: "resource group", loss: "everything in the group is gone" },
    "containerservice:ManagedCluster": { name: "AKS cluster", loss: "what runs on it is gone" },
    "containerregistry:Registry": { name: "container registry", loss: "the images in the registry are gone" },
    "managedidentity:UserAssignedIdentity": {
        name: "identity",
        loss: "what the identity may do must be granted anew",
    },
    "authorization:RoleAssignment": {
        name: "role assignment",
        loss: "what it allows fails until granted anew",
    },
    "containerservice:AgentPool": { name: "node pool" },
    "docker:index/image:Image": { name: "Docker image" },
    "pulumi:providers:kubernetes": { name: "Kubernetes provider" },
};

/** The engine's operations that change a resource, worst first: a heading for each, and a word to count it with. */
const operations: Record<string, [heading: string, word: string]> = {
    replace: ["Replaced", "replaced"],
    delete: ["Deleted", "deleted"],
    update: ["Updated", "update"],
    create: ["Created", "new resource"],
    import: ["Imported", "import"],
};

/**
 * The report on what `pulumi preview --json` printed. Nothing in it brings in markup, mentions or secrets.
 *
 * @param options.allowReplace the loss of a guarded resource is meant: it is reported, and no failure. Default: false.
 * @param options.stack the heading. Default: none.
 * @returns Markdown and an exit code: 1 where a resource group, cluster, registry, identity or role assignment would be
 * replaced or deleted, 2 for a failed preview and for what is no preview, else 0.
 */
export function previewReport(input: string, options: { allowReplace?: boolean; stack?: string } = {}) {
    const preview = readPreview(input);
    const steps = changing(preview?.steps ?? []);
    const [errors, warnings] = [messages(preview ?? {}, "error"), messages(preview ?? {}, "warning")];
    const guarded = steps.filter((step) => isLost(step) && kinds[typeOf(step.urn)]?.loss);
    const isAllowed = options.allowReplace ?? false;
    const parts = !preview
        ? ["**No preview:** run `pulumi preview --json > preview.json` and give that file to the report."]
        : errors.length > 0
          ? [refusal(errors), block(errors)]
          : [decision(steps, guarded, isAllowed)];
    if (options.stack !== undefined) parts.unshift(`## ${code(options.stack)}`);
    parts.push(...sections(steps));
    if (warnings.length > 0) parts.push("### Warnings", block(warnings));
    const exitCode = !preview || errors.length > 0 ? 2 : guarded.length > 0 && !isAllowed ? 1 : 0;
    return { markdown: `${parts.join("\n\n")}\n`, exitCode };
}

/** The steps that change something, worst first. Components are left out, for what they are made of is listed. */
function changing(steps: Step[]): Step[] {
    const isChange = ({ op, newState, oldState }: Step) =>
        Object.hasOwn(operations, op) && (newState ?? oldState)?.custom !== false;
    // With --refresh a resource may have two steps; the later one is what the update does.
    const last = new Map(steps.filter(isChange).map((step) => [step.urn, step]));
    const rank = ({ urn }: Step) => [...Object.keys(kinds), typeOf(urn)].indexOf(typeOf(urn));
    const all = [...last.values()].flatMap((step) => withoutOwnPools(step, steps) ?? []);
    return all.sort((a, b) => rank(a) - rank(b));
}

const isLost = ({ op }: Step) => op === "replace" || op === "delete";

/** A URN's type; Azure's without the version of its API. */
function typeOf(urn: string): string {
    const type = urn.split("::")[2]?.split("$").at(-1) ?? "";
    return type.replace(/^azure-native\w*:(\w+)(\/\w+)?:(\w+)$/, "$1:$3");
}

const nameOf = (urn: string) => code(urn.split("::").slice(3).join("::"));

function kindOf(urn: string): string {
    const last = typeOf(urn).split(":").at(-1) ?? "";
    return kinds[typeOf(urn)]?.name ?? (/^[a-z0-9]+$/i.test(last) ? last : code(last));
}

/** "2 updates, 1 new resource": how often each word comes. */
function tally(words: string[]): string {
    const counted = (word: string, count: number) =>
        `${count} ${count === 1 ? word : `${word.replace(/y$/, "ie")}s`}`;
    const unique = [...new Set(words)];
    return unique.map((word) => counted(word, words.filter((each) => each === word).length)).join(", ");
}

/** The engine's sentences on what it does not do to protected resources. */
const protectedFrom = {
    replace: /unable to replace resource "([^"]+)"[^"]*marked for protection/g,
    delete: /resource "([^"]+)" cannot be deleted\s+because it is protected/g,
};

/** The first line about a preview that failed: what the engine refuses because it is protected, or that it is not all. */
function refusal(errors: string[]): string {
    const refused = (sentence: RegExp) =>
        errors.flatMap((error) => [...error.matchAll(sentence)].map(([, urn = ""]) => urn));
    const would = Object.entries(protectedFrom).flatMap(([op, sentence]) => {
        const some = refused(sentence);
        return some.length > 0
            ? [`${op} ${some.map((urn) => `${kindOf(urn)} ${nameOf(urn)}`).join(" and ")}`]
            : [];
    });
    if (would.length === 0)
        return "**Failed:** the preview ended with an error; it did not find all changes.";
    const way =
        "If it is meant, set `aks-acr:protect` to false in a change of its own first; if not, take back what asks for it.";
    return `**Stop:** this would ${would.join(" and ")}, which is protected, so Pulumi refuses. ${way}`;
}

/** The line that says what the reader must decide. */
function decision(steps: Step[], guarded: Step[], isAllowed: boolean): string {
    if (steps.length === 0) return "No changes.";
    const lost = steps.filter(isLost);
    if (lost.length === 0) {
        const words = Object.entries(operations).flatMap(([op, [, word]]) =>
            steps.filter((step) => step.op === op).map(() => word),
        );
        return `**Nothing to decide:** ${tally(words)}, nothing replaced or deleted.`;
    }
    const [worst] = guarded;
    const would = ["replace", "delete"].flatMap((op) => {
        const some = (worst ? guarded : lost).filter((step) => step.op === op);
        const word = ({ urn }: Step) => (worst ? kindOf(urn).replace(/^(AKS|container) /, "") : "resource");
        return some.length > 0 ? [`${tally(some.map(word))} would be ${operations[op]?.[1]}`] : [];
    });
    if (!worst) return `**Check:** ${would.join("; ")}. Merge only if that is meant.`;
    const what = `${would.join("; ")}; ${loss(worst, lost)}.`;
    return isAllowed
        ? `**Meant:** ${what} This change is allowed to.`
        : `**Stop:** ${what} Merge only if that is meant.`;
}

/** What it means that the worst is lost; of a cluster, whether what runs on it comes back. */
function loss({ urn, op }: Step, lost: Step[]): string {
    const text = kinds[typeOf(urn)]?.loss ?? "";
    if (typeOf(urn) !== "containerservice:ManagedCluster") return text;
    const workloads = lost.filter((step) => typeOf(step.urn) === "kubernetes:apps/v1:Deployment");
    const [workload = "what runs on it"] =
        workloads.length === 1 ? workloads.map((step) => nameOf(step.urn)) : [];
    return op === "delete" ? `${workload} is gone` : `${workload} is down until the new one is up`;
}

/** A section for each operation. A pull request's comment has 65,536 characters at most, so the end may be left out. */
function sections(steps: Step[]): string[] {
    const names = new Map(steps.map(({ urn }) => [urn, `${kindOf(urn)} ${nameOf(urn)}`]));
    const all = [...names.values()];
    const label = (urn: string) => {
        const name = names.get(urn) ?? "";
        const isUnique = all.indexOf(name) === all.lastIndexOf(name);
        return isUnique ? name : `${name}, ${code(urn, Number.POSITIVE_INFINITY)}`;
    };
    let room = 40_000;
    return Object.entries(operations).flatMap(([op, [heading]]) => {
        const entries = steps.filter((step) => step.op === op).map((step) => entry(step, label, steps));
        const shown = entries.filter((each) => {
            room -= each.length;
            return room > 0;
        });
        const rest = entries.length - shown.length;
        const more = rest > 0 ? [`- ${rest} more, for which there is no room here`] : [];
        return entries.length > 0 ? [`### ${heading}`, [...shown, ...more].join("\n")] : [];
    });
}

function entry(step: Step, label: (urn: string) => string, steps: Step[]): string {
    const title = label(step.urn);
    const name = `- ${title.charAt(0).toUpperCase()}${title.slice(1)}`;
    const changes = step.op === "replace" || step.op === "update" ? changesOf(step) : [];
    const lines = changes.sort((a, b) => Number(b.isForcing) - Number(a.isForcing)).map(described);
    if (lines.length > 20) lines.splice(20, lines.length, `${lines.length - 20} more`);
    if (step.op === "replace" && !changes.some(({ isForcing }) => isForcing)) {
        const { replaceWith = [], deletedWith = "", dependencies = [] } = step.oldState ?? {};
        const cause = [...replaceWith, deletedWith, ...dependencies].find((urn) =>
            steps.some((each) => each.urn === urn && isLost(each)),
        );
        if (cause) lines.unshift(`along with ${label(cause)}`);
    }
    return lines.length === 1
        ? `${name}: ${lines[0]}`
        : [name, ...lines.map((each) => `  - ${each}`)].join("\n");
}

/** The command; resolves to its exit code. @throws Error for wrong arguments and for a file that cannot be read. */
async function main(args: string[]): Promise<number> {
    const flags = { "allow-replace": { type: "boolean" }, stack: { type: "string" } } as const;
    const { values, positionals } = parseArgs({ args, options: flags, allowPositionals: true });
    const [file] = positionals;
    const input = file === undefined ? await text(process.stdin) : readFileSync(file, "utf8");
    const { "allow-replace": allowReplace = false, stack } = values;
    const options = stack === undefined ? { allowReplace } : { allowReplace, stack };
    const { markdown, exitCode } = previewReport(input, options);
    process.stdout.write(markdown);
    return exitCode;
}

if (require.main === module) {
    main(process.argv.slice(2)).then(
        (code) => {
            process.exitCode = code;
        },
        (error: Error) => {
            console.error(`${error.message}\nusage: ${usage}`);
            process.exitCode = 2;
        },
    );
}
