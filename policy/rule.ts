import type { ResourceValidationPolicy } from "@pulumi/policy";
import type { PolicyConfigJSONSchema } from "@pulumi/policy/schema";

/** Stands in a preview for a value that only the update will know; a rule has nothing to say about it. */
export const notYetKnown = Symbol("not yet known");

/** A resource as the program declares it. */
export interface Declared {
    /** Type, such as `azure-native:containerregistry:Registry`. */
    type: string;
    /** Name of the stack that it is in. */
    stack: string;
    /** Its inputs; read them with {@link at}. */
    inputs: unknown;
}

/** One thing that a platform team asks for, with the rule's own configuration. */
export interface Rule<Config extends object> {
    name: string;
    description: string;
    /** What a violation does, where the policy configuration does not say otherwise: it stops the update, or warns. */
    level: "mandatory" | "advisory" | "disabled";
    /** The types of resources that it is about. */
    types: RegExp;
    /** The configuration's keys, each with its default. */
    config: { [Key in keyof Config]: PolicyConfigJSONSchema & { default: Config[Key] } };
    /** What is wrong, each with what was found and the fix. */
    check(resource: Declared, config: Config): string[];
}

/** The rule as a policy pack takes it. */
export function policy<Config extends object>(rule: Rule<Config>): ResourceValidationPolicy {
    return {
        name: rule.name,
        description: rule.description,
        enforcementLevel: rule.level,
        configSchema: { properties: rule.config },
        validateResource: ({ type, name, urn, props, getConfig }, report) => {
            if (!rule.types.test(type)) return;
            const stack = urn.split("::")[0]?.replace("urn:pulumi:", "") ?? "";
            const kind = type.split(":").at(-1);
            for (const found of rule.check({ type, stack, inputs: copy(props) }, getConfig<Config>())) {
                report(`${kind} ${name}: ${found}.`);
            }
        },
    };
}

/** A copy that can be read freely: the SDK's own inputs end a rule at the first unknown value that it reads. */
function copy(value: unknown): unknown {
    if (typeof value !== "object" || value === null) return value;
    const read = (key: string) => {
        try {
            return copy((value as Record<string, unknown>)[key]);
        } catch {
            return notYetKnown;
        }
    };
    const entries = Object.keys(value).map((key) => [key, read(key)] as const);
    return Array.isArray(value) ? entries.map(([, each]) => each) : Object.fromEntries(entries);
}

/** The value at a path: undefined where there is none, {@link notYetKnown} where it or what it is in is unknown. */
export function at(value: unknown, ...path: string[]): unknown {
    return path.reduce<unknown>(
        (inner, key) =>
            inner === notYetKnown ? inner : (inner as Record<string, unknown> | null | undefined)?.[key],
        value,
    );
}

/** The entries of the list at a path, none where it is absent or unknown. */
export function listAt(value: unknown, ...path: string[]): unknown[] {
    const found = at(value, ...path);
    return Array.isArray(found) ? found : [];
}

/** Whether the value at a path is known to be none of these; an absent one is undefined. */
export function isNone(value: unknown, ...allowed: unknown[]): boolean {
    return value !== notYetKnown && !allowed.includes(value);
}

/** A value as a message shows it. */
export const show = (value: unknown) =>
    value === undefined ? "not set" : value === notYetKnown ? "(not yet known)" : String(value);

/** Whether a text is of a pattern, in which `*` stands for any characters. */
export function matches(pattern: string, text: string): boolean {
    const parts = pattern.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
    return new RegExp(`^${parts.join(".*")}$`).test(text);
}

/** Types of an azure-native resource, such as `containerregistry:Registry`, in its default and every other API version. */
export function azure(...resources: string[]): RegExp {
    const types = resources.map((resource) => resource.replace(":", "[^:]*:"));
    return new RegExp(`^azure-native[^:]*:(${types.join("|")})$`);
}

/** Schema of a list of texts. */
export function texts(description: string, initial: string[], pattern = ".") {
    const items: PolicyConfigJSONSchema = { type: "string", pattern };
    return { type: "array" as const, items, description, default: initial };
}
