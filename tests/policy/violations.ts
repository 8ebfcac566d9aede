import type { ResourceValidationArgs } from "@pulumi/policy";
import { policies } from "../../policy/rules";

// What the SDK makes of the engine's inputs before it calls a rule; it declares no types for it.
const { unknownCheckingProxy, unknownStringValue } = require("@pulumi/policy/proxy") as {
    unknownCheckingProxy(inputs: object): object;
    unknownStringValue: string;
};

/** What stands for an input that only the update will know, in what the engine sends. */
export const unknown = unknownStringValue;

/** A resource to ask a rule about. */
export interface Asked {
    type: string;
    inputs: object;
    /** Default: `it`. */
    name?: string;
    /** Default: `dev`. */
    stack?: string;
}

/** What a rule reports about a resource, called as the SDK calls it; `config` over the rule's defaults. */
export function violations(rule: string, asked: Asked, config: Record<string, unknown> = {}): string[] {
    const policy = policies.find(({ name }) => name === rule);
    if (typeof policy?.validateResource !== "function") throw new Error(`there is no rule ${rule}`);
    const { type, inputs, name = "it", stack = "dev" } = asked;
    const properties = Object.entries(policy.configSchema?.properties ?? {});
    const defaults = Object.fromEntries(properties.map(([key, schema]) => [key, schema.default]));
    const reported: string[] = [];
    const args = {
        type,
        name,
        urn: `urn:pulumi:${stack}::aks-acr::${type}::${name}`,
        props: unknownCheckingProxy(inputs),
        getConfig: () => ({ ...defaults, ...config }),
    };
    policy.validateResource(args as unknown as ResourceValidationArgs, (message) => reported.push(message));
    return reported;
}
