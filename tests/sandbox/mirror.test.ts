import {
    mkdirSync,
    mkdtempSync,
    readFileSync,
    readlinkSync,
    rmSync,
    symlinkSync,
    writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mirrorCheckout } from "../../sandbox/mirror";

describe("the sandbox's project directory", () => {
    let directory: string;
    const checkout = (...names: string[]) => join(directory, "checkout", ...names);
    const project = (...names: string[]) => join(directory, "project", ...names);
    const stackFile = () => readFileSync(project("Pulumi.dev.yaml"), "utf8");
    const mirror = () => mirrorCheckout(checkout(), project());

    beforeEach(() => {
        directory = mkdtempSync(join(tmpdir(), "aks-acr-"));
        mkdirSync(checkout());
        mkdirSync(project());
        writeFileSync(checkout("index.ts"), "");
        writeFileSync(checkout("Pulumi.dev.yaml"), "config:\n  aks-acr:protect: true\n");
        mirror();
    });

    afterEach(() => rmSync(directory, { recursive: true }));

    it("links to the checkout's files", () => {
        expect(readlinkSync(project("index.ts"))).toBe(checkout("index.ts"));
    });

    it("leaves out what is git's, npm's and the sandbox's", () => {
        for (const name of [".git", ".github", ".sandbox", "node_modules"]) mkdirSync(checkout(name));
        mirror();
        for (const name of [".git", ".github", ".sandbox", "node_modules"])
            expect(() => readlinkSync(project(name))).toThrow("ENOENT");
    });

    it("leads links to a checkout that was moved to where it is now", () => {
        rmSync(project("index.ts"));
        symlinkSync(join(directory, "before", "index.ts"), project("index.ts"));
        mirror();
        expect(readlinkSync(project("index.ts"))).toBe(checkout("index.ts"));
    });

    it("leaves alone what was put in place of a link", () => {
        rmSync(project("index.ts"));
        writeFileSync(project("index.ts"), "another program");
        mirror();
        expect(readFileSync(project("index.ts"), "utf8")).toBe("another program");
    });

    it("copies a stack's file, such that the checkout's is left alone", () => {
        writeFileSync(project("Pulumi.dev.yaml"), "written by pulumi");
        expect(readFileSync(checkout("Pulumi.dev.yaml"), "utf8")).toBe("config:\n  aks-acr:protect: true\n");
    });

    it("keeps what was set in the copy for as long as the checkout's file stays the same", () => {
        writeFileSync(project("Pulumi.dev.yaml"), "config:\n  aks-acr:protect: false\n");
        expect(mirror()).toEqual([]);
        expect(stackFile()).toBe("config:\n  aks-acr:protect: false\n");
    });

    it("takes an edited stack's file at the next command, with the salt that its secrets need", () => {
        writeFileSync(
            project("Pulumi.dev.yaml"),
            'encryptionsalt: v1:abc\nconfig:\n  aks-acr:protect: "true"\n',
        );
        writeFileSync(checkout("Pulumi.dev.yaml"), "config:\n  aks-acr:protect: false\n");
        expect(mirror()).toEqual([]);
        expect(stackFile()).toBe("encryptionsalt: v1:abc\nconfig:\n  aks-acr:protect: false\n");
        expect(mirror()).toEqual([]);
    });

    it("keeps settings of its own beside an edited stack's file, and names that", () => {
        const own = "config:\n  aks-acr:protect: true\n  aks-acr:resourceGroup: team\n";
        writeFileSync(project("Pulumi.dev.yaml"), own);
        writeFileSync(checkout("Pulumi.dev.yaml"), "config: {}\n");
        expect(mirror()).toEqual(["Pulumi.dev.yaml"]);
        expect(stackFile()).toBe("config: {}\n");
        expect(readFileSync(project("Pulumi.dev.yaml.before"), "utf8")).toBe(own);
    });
});
