import { randomInt } from "node:crypto";
import { type Properties, type Provider, unknown } from "../provider";
import { changedKeys } from "./difference";

/** The classes of characters in a RandomString, as its documentation lists them. */
const classes = {
    upper: "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    lower: "abcdefghijklmnopqrstuvwxyz",
    numeric: "0123456789",
    special: "!@#$%&*()-_=+[]{}<>:?",
};

/** Stands in for the vendor's plugin of random 4.21.2; knows RandomString with a length and classes that are on or off. */
export const randomProvider = (): Provider => ({
    version: "4.21.2",

    check({ type }, _olds, inputs) {
        if (type !== "random:index/randomString:RandomString")
            throw new Error(
                `The sandbox makes no ${type}, only RandomString. Install the plugin: pulumi plugin install resource random 4.21.2.`,
            );
        return { inputs };
    },

    /** Every change makes a new string: nothing of it can be changed in place. */
    diff(_resource, _id, olds, news) {
        const changed = changedKeys(olds.inputs, news);
        return { changed, replaces: changed };
    },

    async create(_resource, inputs, preview) {
        const result = preview ? unknown : randomString(inputs);
        return { id: preview ? "" : result, outputs: { ...withDefaults(inputs), result } };
    },

    read: async (_resource, id, state) => ({ id, ...state }),
    update: async (_resource, _id, olds) => olds.outputs,
    delete: async () => undefined,
});

/**
 * A random string from the inputs of a RandomString. Every character is drawn without bias from all classes that are on,
 * from the system's generator.
 */
export function randomString(inputs: Properties): string {
    const settings = withDefaults(inputs);
    const on = Object.entries(classes).filter(([name]) => settings[name]);
    const characters = on.map(([, each]) => each).join("");
    return Array.from({ length: settings.length }, () => characters[randomInt(characters.length)]).join("");
}

function withDefaults(inputs: Properties): Properties {
    const on = { upper: true, lower: true, numeric: true, number: true, special: true };
    const minimums = { minUpper: 0, minLower: 0, minNumeric: 0, minSpecial: 0 };
    return { ...on, ...minimums, ...inputs };
}
