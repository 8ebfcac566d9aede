import fc from "fast-check";
import { type Properties, unknown } from "../../../sandbox/provider";
import { randomProvider, randomString } from "../../../sandbox/providers/random";

const type = "random:index/randomString:RandomString";
const resource = { type, name: "suffix", urn: `urn:pulumi:dev::test::${type}::suffix` };
const provider = randomProvider();
const diff = (olds: Properties, news: Properties) =>
    provider.diff(resource, "id", { inputs: olds, outputs: {} }, news);

describe("a random string", () => {
    it("has the length, and characters of the classes that are on", () => {
        const settings = fc.record({
            length: fc.integer({ min: 1, max: 40 }),
            upper: fc.boolean(),
            special: fc.boolean(),
        });
        fc.assert(
            fc.property(settings, (inputs) => {
                const text = randomString(inputs);
                expect(text).toHaveLength(inputs.length);
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
});

describe("the random provider", () => {
    it("says how to get what it does not make", () => {
        const pet = { ...resource, type: "random:index/randomPet:RandomPet" };
        expect(() => provider.check?.(pet, {}, {}, new Uint8Array())).toThrow(
            "The sandbox makes no random:index/randomPet:RandomPet, only RandomString. Install the plugin: pulumi plugin install resource random 4.21.2.",
        );
    });

    it("replaces the string on every change, and on none otherwise", () => {
        expect(diff({ length: 6 }, { length: 6 })).toEqual({ changed: [], replaces: [] });
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
