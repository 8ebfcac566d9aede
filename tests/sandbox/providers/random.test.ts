import fc from "fast-check";
import { type Properties, unknown } from "../../../sandbox/provider";
import { randomProvider, randomString } from "../../../sandbox/providers/random";

const type = "random:index/randomString:RandomString";
const resource = { type, name: "suffix", urn: `urn:pulumi:dev::test::${type}::suffix` };
const provider = randomProvider();
const check = (inputs: Properties) => provider.check?.(resource, {}, inputs, new Uint8Array());
const diff = (olds: Properties, news: Properties) =>
    provider.diff(resource, "id", { inputs: olds, outputs: {} }, news);

describe("a random string", () => {
    it("has the length, the classes that are on, and as many of each as asked for", () => {
        const count = (text: string, pattern: RegExp) => text.match(pattern)?.length ?? 0;
        const settings = fc.record({
            length: fc.integer({ min: 12, max: 40 }),
            upper: fc.boolean(),
            special: fc.boolean(),
            minLower: fc.nat(4),
            minNumeric: fc.nat(4),
        });
        fc.assert(
            fc.property(settings, (inputs) => {
                const text = randomString(inputs);
                expect(text).toHaveLength(inputs.length);
                expect(count(text, /[a-z]/g)).toBeGreaterThanOrEqual(inputs.minLower);
                expect(count(text, /\d/g)).toBeGreaterThanOrEqual(inputs.minNumeric);
                if (!inputs.upper) expect(text).not.toMatch(/[A-Z]/);
                if (!inputs.special) expect(text).toMatch(/^[A-Za-z0-9]*$/);
            }),
        );
    });

    it("draws every character equally often", () => {
        const text = randomString({ length: 100_000, upper: false, lower: false, special: false });
        const counts = [..."0123456789"].map((digit) => text.split(digit).length - 1);
        // Five standard deviations of a fair draw are 474.
        expect(Math.max(...counts.map((count) => Math.abs(count - 10_000)))).toBeLessThan(474);
    });

    it("does not put the least that it must have of a class first", () => {
        const texts = Array.from({ length: 50 }, () =>
            randomString({ length: 20, minSpecial: 1, minUpper: 10 }),
        );
        expect(texts.every((text) => /^[A-Z]{10}/.test(text))).toBe(false);
    });

    it("takes special characters from the list that overrides them", () => {
        const inputs = { length: 30, upper: false, lower: false, numeric: false, overrideSpecial: "_-" };
        expect(randomString(inputs)).toMatch(/^[_-]{30}$/);
    });
});

describe("the random provider", () => {
    it("refuses a length that holds less than what the string must have", async () => {
        expect(await check({ length: 3, minUpper: 2, minNumeric: 2 })).toMatchObject({
            failures: [{ property: "length", reason: "must be a whole number of at least 4" }],
        });
    });

    it("refuses a string of no characters", async () => {
        const none = { upper: false, lower: false, numeric: false, special: false };
        expect(await check({ length: 3, ...none })).toMatchObject({
            failures: [
                { property: "lower", reason: "one of upper, lower, numeric and special must be true" },
            ],
        });
    });

    it("says how to get what it does not make", () => {
        const pet = { ...resource, type: "random:index/randomPet:RandomPet" };
        expect(() => provider.check?.(pet, {}, {}, new Uint8Array())).toThrow(
            "The sandbox makes no random:index/randomPet:RandomPet, only RandomString. Install the plugin: pulumi plugin install resource random 4.21.2.",
        );
    });

    it("replaces the string on every change, and not where a default is spelled out", () => {
        expect(diff({ length: 6 }, { length: 6, special: true, minLower: 0 })).toEqual({
            changed: [],
            replaces: [],
        });
        expect(diff({ length: 6 }, { length: 6, keepers: { name: unknown } })).toEqual({
            changed: ["keepers"],
            replaces: ["keepers"],
        });
    });

    it("keeps the string unknown in a preview, and gives the defaults", async () => {
        const { id, outputs } = await provider.create(resource, { length: 6, special: false }, true);
        expect(id).toBe("");
        expect(outputs).toMatchObject({
            length: 6,
            special: false,
            upper: true,
            minUpper: 0,
            result: unknown,
        });
    });

    it("makes the string its id", async () => {
        const { id, outputs } = await provider.create(resource, { length: 6 }, false);
        expect(outputs.result).toBe(id);
        expect(id).toHaveLength(6);
    });
});
