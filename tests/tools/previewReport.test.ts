import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import type { Preview, Step } from "../../tools/previewChanges";
import { previewReport } from "../../tools/previewReport";
import { block, code, codes, masked } from "../../tools/publicText";

// The fixtures are what the engine printed for this program with one thing changed, without what the report does not read.

const fixture = (name: string) => readFileSync(join(__dirname, "fixtures", `${name}.json`), "utf8");
const lines = (...all: string[]) => `${all.join("\n")}\n`;

const report = (preview: Preview, options = {}) => previewReport(JSON.stringify(preview), options);

const urn = (type: string, name: string) => `urn:pulumi:dev::aks-acr::${type}::${name}`;
const cluster = "azure-native:containerservice:ManagedCluster";
const registry = "azure-native:containerregistry:Registry";
const configMap = "kubernetes:core/v1:ConfigMap";

/** A preview of one update of a ConfigMap, in which the engine compared what `detailedDiff` names. */
function update(before: object, after: object, ...paths: string[]): Preview {
    const step: Step = {
        op: "update",
        urn: urn(configMap, "settings"),
        oldState: { custom: true, inputs: before },
        newState: { custom: true, inputs: after },
        detailedDiff: Object.fromEntries(paths.map((path) => [path, { kind: "update", inputDiff: true }])),
    };
    return { steps: [step] };
}

/** The lines of the report on {@link update} that say what changes. */
function changes(...args: Parameters<typeof update>): string[] {
    const { markdown } = report(update(...args));
    return [...markdown.matchAll(/^(?:- ConfigMap `settings`: | {2}- )(.*)$/gm)].map(
        ([, line]) => line ?? "",
    );
}

describe("the report on a preview", () => {
    it("is one line where nothing changes", () => {
        expect(previewReport(fixture("nothing"))).toEqual({ markdown: "No changes.\n", exitCode: 0 });
    });

    it("says a changed number of nodes in one line", () => {
        expect(previewReport(fixture("nodeCount"))).toEqual({
            markdown: lines(
                "**Nothing to decide:** 1 update, nothing replaced or deleted.",
                "",
                "### Updated",
                "",
                "- AKS cluster `cluster`: `agentPoolProfiles[0].count` `2` → `3`",
            ),
            exitCode: 0,
        });
    });

    it("stops at a cluster that would be replaced, with the property that forces it and what goes along", () => {
        expect(previewReport(fixture("dnsPrefix"))).toEqual({
            markdown: lines(
                "**Stop:** 1 cluster would be replaced; `nginx` is down until the new one is up. Merge only if that is meant.",
                "",
                "### Replaced",
                "",
                "- AKS cluster `cluster`: forced by `dnsPrefix` `nginx-dev` → `other`",
                "- Namespace `nginx`: along with AKS cluster `cluster`",
                "- PodDisruptionBudget `nginx`: along with AKS cluster `cluster`",
                "- Deployment `nginx`: along with AKS cluster `cluster`",
                "- Service `nginx`: along with AKS cluster `cluster`",
                "",
                "### Updated",
                "",
                "- Kubernetes provider `cluster`: `kubeconfig` `[secret]` → `[secret]`",
            ),
            exitCode: 1,
        });
    });

    it("stops at a registry that would be replaced, and at the role assignment that goes with it", () => {
        expect(previewReport(fixture("registryName"))).toEqual({
            markdown: lines(
                "**Stop:** 1 registry, 1 role assignment would be replaced; the images in the registry are gone. Merge only if that is meant.",
                "",
                "### Replaced",
                "",
                "- Container registry `registry`: forced by `registryName` `aksnginxdevacrhczwmo` → `otherregistry`",
                "- Role assignment `acr-pull`: along with container registry `registry`",
                "",
                "### Deleted",
                "",
                "- RandomString `registry-suffix`",
                "",
                "### Updated",
                "",
                "- Docker image `nginx-image`",
                "  - `imageName` `127.0.0.1:22464/nginx:v1` → known after the update",
                "  - `registry.server` `127.0.0.1:22464` → known after the update",
                "- Deployment `nginx`: `spec.template.spec.containers[0].image` `127.0.0.1:22464/nginx@sha256:1e6c503fbd1c…` → known after the update",
            ),
            exitCode: 1,
        });
    });

    it("lets a changed registry SKU pass, without the password that the engine compared", () => {
        expect(previewReport(fixture("registrySku"))).toEqual({
            markdown: lines(
                "**Nothing to decide:** 3 updates, nothing replaced or deleted.",
                "",
                "### Updated",
                "",
                "- Container registry `registry`: `sku.name` `Basic` → `Standard`",
                "- Docker image `nginx-image`",
                "  - `imageName` `127.0.0.1:22464/nginx:v1` → known after the update",
                "  - `registry.server` `127.0.0.1:22464` → known after the update",
                "- Deployment `nginx`: `spec.template.spec.containers[0].image` `127.0.0.1:22464/nginx@sha256:1e6c503fbd1c…` → known after the update",
            ),
            exitCode: 0,
        });
    });

    it("says a changed page as the image's digest and the Deployment's image", () => {
        expect(previewReport(fixture("page"))).toEqual({
            markdown: lines(
                "**Nothing to decide:** 2 updates, nothing replaced or deleted.",
                "",
                "### Updated",
                "",
                "- Docker image `nginx-image`: `build.contextDigest` `6c0b80233be1…` → `8dd3c5bd3050…`",
                "- Deployment `nginx`: `spec.template.spec.containers[0].image` `127.0.0.1:22464/nginx@sha256:1e6c503fbd1c…` → known after the update",
            ),
            exitCode: 0,
        });
    });

    it("stops where everything would be deleted, the worst first and without components", () => {
        expect(previewReport(fixture("removed"))).toEqual({
            markdown: lines(
                "**Stop:** 1 resource group, 1 cluster, 1 registry, 2 identities, 2 role assignments would be deleted; everything in the group is gone. Merge only if that is meant.",
                "",
                "### Deleted",
                "",
                "- Resource group `nginx-dev`",
                "- AKS cluster `cluster`",
                "- Container registry `registry`",
                "- Identity `cluster-kubelet`",
                "- Identity `cluster-control-plane`",
                "- Role assignment `cluster-uses-kubelet`",
                "- Role assignment `acr-pull`",
                "- Docker image `nginx-image`",
                "- Kubernetes provider `cluster`",
                "- Service `nginx`",
                "- Deployment `nginx`",
                "- PodDisruptionBudget `nginx`",
                "- Namespace `nginx`",
                "- RandomString `registry-suffix`",
            ),
            exitCode: 1,
        });
    });

    it("ends with the warnings, each once", () => {
        expect(previewReport(fixture("warned"))).toEqual({
            markdown: lines(
                "**Nothing to decide:** 1 new resource, nothing replaced or deleted.",
                "",
                "### Created",
                "",
                "- Node pool `cluster-work`",
                "",
                "### Warnings",
                "",
                "```",
                "The Free tier has no uptime SLA.",
                "Use Standard for production.",
                "The registry is reachable from the internet.",
                "```",
            ),
            exitCode: 0,
        });
    });

    it("begins with the error where the preview failed", () => {
        expect(previewReport(fixture("refused"))).toEqual({
            markdown: lines(
                "**Failed:** the preview ended with an error; it did not find all changes.",
                "",
                "```",
                "A setting is wrong; nothing was changed.",
                '  - aks-acr:cluster.create.tier is "Gold"; use Free or Standard or Premium',
                "See them with `pulumi config`, change one with `pulumi config set --path 'aks-acr:<key>' <value>`.",
                "```",
            ),
            exitCode: 2,
        });
    });

    it("leaves colours and Node's stack traces out of an error", () => {
        const { markdown } = previewReport(fixture("failed"));
        const cause =
            'error serializing property "resourceGroupName": error serializing property "resourceGroupName": error serializing property "resourceGroupName": invocation of azure-native:resources:getResourceGroup returned an error: request failed /subscriptions/a8fa7fd6-0893-411a-a990-7b5545ccf9c4/resourceGroups/no-such-group: Status=404 Code="ResourceGroupNotFound" Message="Resource group \'no-such-group\' could not be found."';
        expect(markdown.split("\n").slice(2)).toEqual([
            "```",
            `Error serializing arguments for invoke azure-native:containerservice:listManagedClusterUserCredentials: Error: ${cause}`,
            "Running program '/home/ci/aks-acr/index.ts' failed with an unhandled exception:",
            `<ref *1> Error: ${cause} {`,
            "  promise: Promise { <rejected> [Circular *1] }",
            "}",
            "```",
            "",
        ]);
    });

    it("lets a replacement pass that is allowed, and says that it is meant", () => {
        const { markdown, exitCode } = previewReport(fixture("dnsPrefix"), { allowReplace: true });
        expect(markdown.split("\n")[0]).toBe(
            "**Meant:** 1 cluster would be replaced; `nginx` is down until the new one is up. This change is allowed to.",
        );
        expect(exitCode).toBe(0);
    });

    it("fails for a failed preview also where replacing is allowed", () => {
        expect(previewReport(fixture("refused"), { allowReplace: true }).exitCode).toBe(2);
    });

    it("has the stack for a heading if it is given", () => {
        expect(previewReport(fixture("nothing"), { stack: "prod" }).markdown).toBe(
            "## `prod`\n\nNo changes.\n",
        );
    });

    it.each(["", "null", "[]", "{}", "preview", '{"version":3,"deployment":{}}', '{"steps":[{}]}'])(
        "says what to do about %j, which is no preview",
        (input) => {
            expect(previewReport(input)).toEqual({
                markdown:
                    "**No preview:** run `pulumi preview --json > preview.json` and give that file to the report.\n",
                exitCode: 2,
            });
        },
    );
});

describe("what must not get lost", () => {
    it.each([
        ["azure-native:resources:ResourceGroup", "resource group", "everything in the group is gone"],
        [cluster, "cluster", "what runs on it is gone"],
        [registry, "registry", "the images in the registry are gone"],
        [
            "azure-native:managedidentity:UserAssignedIdentity",
            "identity",
            "what the identity may do must be granted anew",
        ],
        [
            "azure-native:authorization:RoleAssignment",
            "role assignment",
            "what it allows fails until granted anew",
        ],
    ])("is %s", (type, name, loss) => {
        const { markdown, exitCode } = report({ steps: [{ op: "delete", urn: urn(type, "it") }] });
        expect(markdown.split("\n")[0]).toBe(
            `**Stop:** 1 ${name} would be deleted; ${loss}. Merge only if that is meant.`,
        );
        expect(exitCode).toBe(1);
    });

    it.each([
        "azure-native:containerregistry/v20250401:Registry",
        "azure-native_containerregistry_v20251101:containerregistry:Registry",
        `aks-acr:index:ContainerRegistry$${registry}`,
    ])("is recognised whatever its API version and its parent: %s", (type) => {
        expect(report({ steps: [{ op: "replace", urn: urn(type, "it") }] }).exitCode).toBe(1);
    });

    it("is counted apart where some is replaced and some deleted", () => {
        const steps: Step[] = [
            { op: "delete", urn: urn(registry, "a") },
            { op: "replace", urn: urn(cluster, "b") },
            { op: "replace", urn: urn(cluster, "c") },
        ];
        expect(report({ steps }).markdown.split("\n")[0]).toBe(
            "**Stop:** 2 clusters would be replaced; 1 registry would be deleted; what runs on it is down until the new one is up. Merge only if that is meant.",
        );
    });

    it("is nothing else: other losses are to be checked, and no failure", () => {
        const steps: Step[] = [
            { op: "replace", urn: urn(configMap, "a") },
            { op: "delete", urn: urn(configMap, "b") },
            { op: "update", urn: urn(cluster, "c") },
        ];
        const { markdown, exitCode } = report({ steps });
        expect(markdown.split("\n")[0]).toBe(
            "**Check:** 1 resource would be replaced; 1 resource would be deleted. Merge only if that is meant.",
        );
        expect(exitCode).toBe(0);
    });
});

describe("a step", () => {
    it("is listed once where the engine shows how it replaces", () => {
        const steps = ["delete-replaced", "replace", "create-replacement"].map((op) => ({
            op,
            urn: urn(configMap, "settings"),
        }));
        expect(report({ steps }).markdown).toContain("### Replaced\n\n- ConfigMap `settings`\n");
    });

    it("counts as what the update does where a refresh found a difference before", () => {
        const steps = ["delete", "create"].map((op) => ({ op, urn: urn(cluster, "cluster") }));
        expect(report({ steps })).toEqual({
            markdown: lines(
                "**Nothing to decide:** 1 new resource, nothing replaced or deleted.",
                "",
                "### Created",
                "",
                "- AKS cluster `cluster`",
            ),
            exitCode: 0,
        });
    });

    it("shows its URN where kind and name do not tell it from another", () => {
        const steps = ["aks-acr:index:A", "aks-acr:index:B"].map((parent) => ({
            op: "create",
            urn: urn(`${parent}$${configMap}`, "settings"),
        }));
        expect(report({ steps }).markdown).toContain(
            `- ConfigMap \`settings\`, \`${steps[0]?.urn}\`\n- ConfigMap \`settings\`, \`${steps[1]?.urn}\`\n`,
        );
    });

    it("names what forces a replacement before what else changes", () => {
        const preview = update({ a: 1, b: 1 }, { a: 2, b: 2 }, "a", "b");
        const [step] = preview.steps ?? [];
        Object.assign(step ?? {}, { op: "replace" });
        Object.assign(step?.detailedDiff ?? {}, { b: { kind: "update-replace", inputDiff: true } });
        expect(report(preview).markdown).toContain(
            "- ConfigMap `settings`\n  - forced by `b` `1` → `2`\n  - `a` `1` → `2`\n",
        );
    });

    it("is compared by the properties that the engine names where it gives no paths", () => {
        const preview = update({ data: { a: "1" } }, { data: { a: "2" } });
        Object.assign(preview.steps?.[0] ?? {}, { diffReasons: ["data"] });
        expect(report(preview).markdown).toContain("- ConfigMap `settings`: `data.a` `1` → `2`\n");
    });

    it("with very many changes leaves room for the others", () => {
        const many = (value: number) =>
            Object.fromEntries(Array.from({ length: 25 }, (_, n) => [`k${n}`, value]));
        const all = changes({ data: many(1) }, { data: many(2) }, "data");
        expect(all.slice(19)).toEqual(["`data.k19` `1` → `2`", "5 more"]);
    });

    it("is left out at the end where a comment has no room for it", () => {
        const steps = Array.from({ length: 3000 }, (_, n) => ({
            op: "create",
            urn: urn(configMap, `n${n}`),
        }));
        const { markdown } = report({ steps });
        expect(markdown.length).toBeLessThan(45_000);
        expect(markdown).toMatch(/^- \d+ more, for which there is no room here\n$/m);
    });
});

describe("a change", () => {
    it("is shown down to the values that differ", () => {
        expect(
            changes({ spec: { a: [1, { b: "x" }], c: 1 } }, { spec: { a: [1, { b: "y" }], c: 1 } }, "spec"),
        ).toEqual(["`spec.a[1].b` `x` → `y`"]);
    });

    it("is found under keys with dots", () => {
        const labels = (team: string) => ({ labels: { "example.com/team": team } });
        expect(changes(labels("a"), labels("b"), 'labels["example.com/team"]')).toEqual([
            '`labels["example.com/team"]` `a` → `b`',
        ]);
    });

    it("says what is set and what is removed", () => {
        expect(changes({ a: "1" }, { b: "" }, "a", "b")).toEqual(["`a` removed, was `1`", '`b` set to `""`']);
    });

    it("tells a number from text", () => {
        expect(changes({ a: 2 }, { a: "2" }, "a")).toEqual(['`a` `2` → `"2"`']);
    });

    it("of a text to none is shown as such", () => {
        expect(changes({ a: "1" }, { a: "" }, "a")).toEqual(['`a` `1` → `""`']);
    });

    it("says also inside an object what is not known before the update", () => {
        const unknown = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
        expect(changes({}, { a: { b: unknown } }, "a")).toEqual([
            '`a` set to `{"b":"known after the update"}`',
        ]);
    });

    it("is left out where only the service computes the value", () => {
        const preview = update({ a: 1 }, { a: 2 }, "a", "status");
        const [step] = preview.steps ?? [];
        Object.assign(step?.oldState ?? {}, { outputs: { status: "x" } });
        Object.assign(step?.detailedDiff ?? {}, { status: { kind: "delete", inputDiff: false } });
        expect(report(preview).markdown).toContain("- ConfigMap `settings`: `a` `1` → `2`\n");
    });

    it("is against what is there where the engine found it in the state", () => {
        const preview = update({ a: 1 }, { a: 1 }, "a");
        const [step] = preview.steps ?? [];
        Object.assign(step?.oldState ?? {}, { outputs: { a: 5 } });
        Object.assign(step?.detailedDiff ?? {}, { a: { kind: "update", inputDiff: false } });
        expect(report(preview).markdown).toContain("- ConfigMap `settings`: `a` `5` → `1`\n");
    });

    it("of a long value shows where it is, if the middle that is left out hides it", () => {
        const value = (middle: string) => `${"a".repeat(60)}${middle}${"z".repeat(60)}`;
        expect(codes(value("1"), value("2"))).toEqual([
            `\`…aaaaaaaa1${"z".repeat(60)}\``,
            `\`…aaaaaaaa2${"z".repeat(60)}\``,
        ]);
    });
});

describe("a secret", () => {
    const marked = {
        "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
        ciphertext: "v1:aaaa:bbbb",
    };

    it("that the engine marked is masked wherever it is", () => {
        expect(masked({ a: [{ b: marked }] })).toEqual({ a: [{ b: "[secret]" }] });
        expect(changes({ a: marked }, { a: "public" }, "a")).toEqual(["`a` `[secret]` → `public`"]);
    });

    it("is also what the engine compared inside of one", () => {
        expect(changes({ data: marked }, { data: marked }, "data.user")).toEqual([
            "`data.user` `[secret]` → `[secret]`",
        ]);
    });

    it.each(["password", "clientSecret", "refresh_token", "kubeconfig", "primaryKey", "DB_PASSWORD_1"])(
        "is text under the name %s",
        (name) => {
            expect(masked({ [name]: "x" })).toEqual({ [name]: "[secret]" });
        },
    );

    it("is the value of an environment variable with such a name", () => {
        const variables = [
            { name: "DB_PASSWORD", value: "x" },
            { name: "LEVEL", value: "info" },
        ];
        expect(masked(variables)).toEqual([{ name: "DB_PASSWORD", value: "[secret]" }, variables[1]]);
    });

    const bytes = "aB3".repeat(20);
    // Put together here, so that no scanner takes them for real ones.
    it.each([
        ["a JSON web token", ["eyJhbGciOi", "eyJzdWIiOi", "c2lnbmF0"].join(".")],
        ["a private key", ["-----BEGIN", "PRIVATE KEY-----\nMIIE\n-----END", "PRIVATE KEY-----"].join(" ")],
        ["a private key in base64", Buffer.from("-----BEGIN PRIVATE KEY-----").toString("base64")],
        ["a GitHub token", `ghp_${"a".repeat(36)}`],
        ["a Pulumi token", `pul-${"a".repeat(40)}`],
        ["a Microsoft Entra client secret", `abc8Q~${"a".repeat(34)}`],
        ["a password in an address", "https://user:hunter2@example.com/"],
        ["an account key in a connection string", "AccountName=a;AccountKey=abc"],
        ["a signature in an address", "https://example.com/a?sv=1&sig=abc%3D"],
        ["an authorization header", "Bearer abcdefgh"],
        ["a password in JSON", '{"password":"hunter2"}'],
        ["random bytes in base64", `${"ab/+".repeat(10)}abc=`],
        ["random text", bytes],
    ])("is %s, in a value, in a name and in an error", (_, text) => {
        expect(masked({ data: `see ${text}` })).toEqual({ data: "[secret]" });
        const { markdown } = report({
            steps: [{ op: "create", urn: urn(configMap, text) }],
            diagnostics: [{ severity: "error", message: text }],
        });
        expect(markdown.match(/\[secret\]/g)).toHaveLength(2);
    });

    it.each([
        "/subscriptions/a8fa7fd6-0893-411a-a990-7b5545ccf9c4/resourceGroups/nginxdev/providers/Microsoft.ContainerRegistry/registries/aksNginx1",
        "127.0.0.1:22464/nginx@sha256:1e6c503fbd1cc7df17f086659bd2965c9b499718625be3c2d921ff071d86a70d",
        "https://example.com:8080/a@b",
        "requiredDuringSchedulingIgnoredDuringExecution",
    ])("is not %s", (text) => {
        expect(masked({ data: text })).toEqual({ data: text });
    });
});

describe("text in the report", () => {
    /** Text with what Markdown, HTML and terminals act on. */
    const hostile = fc
        .array(
            fc.oneof(
                fc.constantFrom(..."`|<>&\n\r\t\\*_[]()#@!~:/$. \u001b\u0085\u2028\u202e\u200b\ud800"),
                fc.constantFrom(
                    "```",
                    "`` ",
                    "</code>",
                    "<!--",
                    "@octocat",
                    "](https://example.com)",
                    "\n\n# x\n",
                ),
                fc.string({ unit: "binary", maxLength: 3 }),
            ),
            { maxLength: 20 },
        )
        .map((parts) => parts.join(""));

    /** The report without its code spans and fenced blocks: what Markdown acts on. */
    function skeleton(markdown: string): string {
        const withoutBlocks = markdown.replace(/^(`{3,})\n[\s\S]*?\n\1$/gm, "BLOCK");
        return withoutBlocks.replace(/`[^`\n]+`/g, "CODE");
    }

    it("is a code span of one line that nothing in it ends, also in a table's cell", () => {
        fc.assert(
            fc.property(hostile, (text) => {
                expect(code(text)).toMatch(/^`[^`|<\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]+`$/u);
            }),
        );
    });

    it("is a fenced block that no line in it ends", () => {
        fc.assert(
            fc.property(fc.array(hostile, { minLength: 1 }), (texts) => {
                const [fence = "", ...rest] = block(texts).split("\n");
                const closing = rest.findIndex(
                    (line) => /^ {0,3}`{3,}\s*$/.test(line) && line.trim().length >= fence.length,
                );
                expect(closing).toBe(rest.length - 1);
                expect(fence).toMatch(/^`{3,}$/);
            }),
        );
    });

    it("leaves the report's own Markdown as it is, wherever it comes from", () => {
        const whole = (text: string) => {
            const type = text.replace(/[:$]/g, "");
            const preview = update({ data: { key: "" } }, { data: { key: `-${text}` } }, "data");
            preview.steps?.push(
                { op: "create", urn: urn(` ${type}`, text) },
                { op: "replace", urn: urn(cluster, text) },
                { op: "replace", urn: urn("kubernetes:apps/v1:Deployment", text) },
                ...(update({}, { [`${text}z`]: 1 }, `["${text.replaceAll('"', '\\"')}z"]`).steps ?? []).map(
                    (step) => ({
                        ...step,
                        urn: urn(configMap, "other"),
                    }),
                ),
            );
            preview.diagnostics = [{ severity: "warning", message: `-${text}` }];
            return skeleton(report(preview, { stack: text }).markdown);
        };
        const own = whole("a");
        expect(own).not.toContain("`");
        fc.assert(
            fc.property(hostile, (text) => {
                expect(whole(text)).toBe(own);
            }),
        );
    });

    it("is cut in the middle where it is long", () => {
        expect(code("a".repeat(50) + "b".repeat(50))).toBe(`\`${"a".repeat(40)}…${"b".repeat(40)}\``);
    });

    it("shows what it escapes", () => {
        expect(code("a`b|c<d>\ne\u202e")).toBe("`a\\u{60}b\\u{7c}c\\u{3c}d>\\ne\\u{202e}`");
    });
});

describe("the command", () => {
    const run = (args: string[], input = "") =>
        spawnSync(process.execPath, ["--import", "tsx", "tools/previewReport.ts", ...args], {
            cwd: join(__dirname, "../.."),
            input,
            encoding: "utf8",
        });

    it("reads a file, and ends with the report's exit code", () => {
        const { stdout, status } = run([join(__dirname, "fixtures", "dnsPrefix.json")]);
        expect([stdout, status]).toEqual([previewReport(fixture("dnsPrefix")).markdown, 1]);
    });

    it("reads standard input without a file, and takes options", () => {
        const { stdout, status } = run(["--allow-replace", "--stack", "prod"], fixture("dnsPrefix"));
        const expected = previewReport(fixture("dnsPrefix"), { allowReplace: true, stack: "prod" });
        expect([stdout, status]).toEqual([expected.markdown, 0]);
    });

    it("says its usage where it cannot read the file", () => {
        const { stderr, status } = run(["no-such-file.json"]);
        expect(stderr).toBe(
            "ENOENT: no such file or directory, open 'no-such-file.json'\n" +
                "usage: node --import tsx tools/previewReport.ts [--allow-replace] [--stack <name>] [file]\n",
        );
        expect(status).toBe(2);
    });
});

describe("a preview of a protected stack", () => {
    const urn = (name: string) =>
        `urn:pulumi:prod::aks-acr::aks-acr:index:AksCluster$azure-native:containerservice:${name}`;
    const refused = (resource: string) =>
        `unable to replace resource "${resource}"\nas it is currently marked for protection. To unprotect the resource, remove the \`protect\` flag`;

    it("says what it would replace, and that Pulumi refuses", () => {
        const diagnostics = [
            { severity: "error", message: refused(urn("ManagedCluster::cluster")) },
            { severity: "error", message: refused(urn("AgentPool::cluster-apps")) },
        ];
        const { markdown, exitCode } = previewReport(JSON.stringify({ diagnostics }));
        expect(markdown.split("\n")[0]).toBe(
            "**Stop:** this would replace AKS cluster `cluster` and node pool `cluster-apps`, which is protected, so Pulumi refuses. " +
                "If it is meant, set `aks-acr:protect` to false in a change of its own first; if not, take back what asks for it.",
        );
        expect(exitCode).toBe(2);
    });

    it("says what it would delete", () => {
        const message = `Preview failed: resource "${urn("ManagedCluster::cluster")}" cannot be deleted\nbecause it is protected. To unprotect the resource, either remove the \`protect\` flag`;
        const diagnostics = [
            { severity: "error", message },
            { severity: "error", message: "preview failed" },
        ];
        const { markdown, exitCode } = previewReport(JSON.stringify({ diagnostics }));
        expect(markdown.split("\n")[0]).toBe(
            "**Stop:** this would delete AKS cluster `cluster`, which is protected, so Pulumi refuses. " +
                "If it is meant, set `aks-acr:protect` to false in a change of its own first; if not, take back what asks for it.",
        );
        expect(exitCode).toBe(2);
    });
});

describe("a refreshed cluster whose user pools are resources of their own", () => {
    const pool = (name: string, more = {}) => ({ name, vmSize: "Standard_D4s_v5", ...more });
    const agentPool: Step = {
        op: "same",
        urn: urn("azure-native:containerservice:AgentPool", "cluster-apps"),
        newState: { custom: true, inputs: { agentPoolName: "apps" } },
    };
    /** What the report says where a refresh has read these pools, and the update is to give the cluster those. */
    function reported(before: object[], after: object[], others = [agentPool], inputs = {}) {
        const paths = [...before, ...after].map((_, index) => `agentPoolProfiles[${index}]`);
        const step: Step = {
            op: "update",
            urn: urn(cluster, "cluster"),
            oldState: { custom: true, inputs: { tags: {}, agentPoolProfiles: before } },
            newState: { custom: true, inputs: { tags: {}, agentPoolProfiles: after, ...inputs } },
            detailedDiff: Object.fromEntries(
                [...paths, ...Object.keys(inputs)].map((path) => [path, { kind: "update", inputDiff: true }]),
            ),
        };
        return report({ steps: [...others, step] }).markdown;
    }
    const updated = (...changes: string[]) =>
        lines(
            "**Nothing to decide:** 1 update, nothing replaced or deleted.",
            "",
            "### Updated",
            "",
            ...(changes.length === 1
                ? [`- AKS cluster \`cluster\`: ${changes[0]}`]
                : ["- AKS cluster `cluster`", ...changes.map((each) => `  - ${each}`)]),
        );

    it.each([
        ["behind", [pool("system"), pool("apps")]],
        ["before", [pool("apps"), pool("system")]],
    ])("is no change where they were read in %s the cluster's own", (_, before) => {
        expect(reported(before, [pool("system")])).toBe("No changes.\n");
    });

    it("shows what else changes", () => {
        expect(reported([pool("apps"), pool("system", { count: 2 })], [pool("system", { count: 3 })])).toBe(
            updated("`agentPoolProfiles[0].count` `2` → `3`"),
        );
        expect(
            reported([pool("system"), pool("apps")], [pool("system")], [agentPool], {
                tags: { team: "web" },
            }),
        ).toBe(updated("`tags.team` set to `web`"));
    });

    it("leaves out what AKS says about a pool, and not what the stack said before", () => {
        const refreshed: Step = {
            op: "refresh",
            urn: urn(cluster, "cluster"),
            oldState: { custom: true, inputs: { agentPoolProfiles: [pool("system", { maxPods: 50 })] } },
        };
        const read = [pool("apps"), pool("system", { maxPods: 50, kubeletDiskType: "OS" })];
        expect(reported(read, [pool("system", { maxPods: 50 })], [agentPool, refreshed])).toBe(
            "No changes.\n",
        );
        expect(reported(read, [pool("system")], [agentPool, refreshed])).toBe(
            updated("`agentPoolProfiles[0].maxPods` removed, was `50`"),
        );
    });

    it("shows a pool that is no resource, and one whose resource is deleted", () => {
        const change = updated(
            '`agentPoolProfiles[1]` removed, was `{"name":"apps","vmSize":"Standard_D4s_v5"}`',
        );
        expect(reported([pool("system"), pool("apps")], [pool("system")], [])).toBe(change);
        const deleted: Step = { ...agentPool, op: "delete", oldState: agentPool.newState ?? {} };
        expect(reported([pool("system"), pool("apps")], [pool("system")], [deleted])).toContain(
            "`agentPoolProfiles[1]` removed",
        );
    });
});
