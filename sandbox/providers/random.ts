import { randomInt } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { hasUnknown, type Properties, type Provider, unknown } from "../provider";

/** The classes of characters in a RandomString, as its documentation lists them, and the input that asks for so many. */
const classes = [
    { name: "upper", minimum: "minUpper", characters: "ABCDEFGHIJKLMNOPQRSTUVWXYZ" },
    { name: "lower", minimum: "minLower", characters: "abcdefghijklmnopqrstuvwxyz" },
    { name: "numeric", minimum: "minNumeric", characters: "0123456789" },
    { name: "special", minimum: "minSpecial", characters: "!@#$%&*()-_=+[]{}<>:?" },
];

/** Stands in for the vendor's plugin of random 4.21.2; knows RandomString. */
export const randomProvider = (): Provider => ({
    version: "4.21.2",

    check({ type }, _olds, inputs) {
        if (type !== "random:index/randomString:RandomString")
            throw new Error(
                `The sandbox makes no ${type}, only RandomString. Install the plugin: pulumi plugin install resource random 4.21.2.`,
            );
        if (hasUnknown(inputs)) return { inputs };
        const settings = withDefaults(inputs);
        const least = classes.reduce((sum, { minimum }) => sum + settings[minimum], 0) || 1;
        const failures: { property: string; reason: string }[] = [];
        if (!Number.isInteger(settings.length) || settings.length < least)
            failures.push({ property: "length", reason: `must be a whole number of at least ${least}` });
        if (!classes.some(({ name }) => settings[name]))
            failures.push({
                property: "lower",
                reason: "one of upper, lower, numeric and special must be true",
            });
        return { inputs, failures };
    },

    /** Every change makes a new string: nothing of it can be changed in place. */
    diff(_resource, _id, olds, news) {
        const [before, after] = [withDefaults(olds.inputs), withDefaults(news)];
        const changed = Object.keys({ ...before, ...after }).filter(
            (key) => hasUnknown(after[key]) || !isDeepStrictEqual(before[key], after[key]),
        );
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
 * A random string from the inputs of a RandomString: of each class as many as it must have, the rest from all classes
 * that are on, in random order. Every character is drawn without bias, from the system's generator.
 */
export function randomString(inputs: Properties): string {
    const settings = withDefaults(inputs);
    const charactersOf = ({ name, characters }: (typeof classes)[number]) =>
        (name === "special" && settings.overrideSpecial) || characters;
    const on = classes.filter(({ name }) => settings[name]);
    const all = on.map(charactersOf).join("");
    const drawn = classes.flatMap((each) =>
        Array.from({ length: settings[each.minimum] }, () => pick(charactersOf(each))),
    );
    while (drawn.length < settings.length) drawn.push(pick(all));
    // Drawn out of a hat one by one, or the classes would come in a known order.
    return Array.from({ length: drawn.length }, () => drawn.splice(randomInt(drawn.length), 1)).join("");
}

const pick = (characters: string) => characters.charAt(randomInt(characters.length));

function withDefaults(inputs: Properties): Properties {
    const numeric = inputs.numeric ?? inputs.number ?? true;
    const minimums = { minUpper: 0, minLower: 0, minNumeric: 0, minSpecial: 0 };
    return { upper: true, lower: true, special: true, ...minimums, ...inputs, numeric, number: numeric };
}
