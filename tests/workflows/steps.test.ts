import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
    appendFileSync,
    cpSync,
    existsSync,
    mkdirSync,
    mkdtempSync,
    readFileSync,
    rmSync,
    statSync,
    symlinkSync,
    writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { bashArguments, changedStacks, checkout } from "./workflows";

// The scripts of the workflows as they are written, away from GitHub; tests/engine/workflows.test.ts runs those that work on a
// stack on the real engine too. What is not here takes GitHub, Azure or npm's registry: the actions, and `npm ci`.

let directory: string;
const at = (...names: string[]) => join(directory, ...names);
const fixture = (name: string) => join(checkout, "tests", "tools", "fixtures", `${name}.json`);
const read = (name: string) => readFileSync(at(name), "utf8");

beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "aks-acr-workflows-"));
    for (const name of ["node_modules", "tools"]) symlinkSync(join(checkout, name), at(name));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Runs a step as GitHub does with `shell: bash`, with nothing of GitHub's around it. */
function step(name: string, environment: Record<string, string> = {}) {
    const env = {
        PATH: [at("bin"), dirname(process.execPath), process.env.PATH].join(delimiter),
        HOME: directory,
        STACK: "dev",
        ...environment,
    };
    const { status, stdout, stderr } = spawnSync("bash", bashArguments(name), {
        cwd: directory,
        env,
        encoding: "utf8",
    });
    return { status, stdout, stderr };
}

/** Puts a command in place that notes its arguments in `calls`, then does what the script says. */
function stub(command: string, script: string): void {
    mkdirSync(at("bin"), { recursive: true });
    const note = `echo "${command} $*" >> '${at("calls")}'`;
    writeFileSync(at("bin", command), `#!/bin/bash\n${note}\n${script}\n`, { mode: 0o755 });
}

/** What the stubs were called with, in order. */
const calls = () => (existsSync(at("calls")) ? read("calls").trim().split("\n") : []);

describe("the preview workflow", () => {
    /** What the script prints for a change of these files in a repository with three stacks. */
    function touched(...files: string[]): string {
        const git = (...args: string[]) => {
            const identity = [
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@example.com",
                "-c",
                "commit.gpgsign=false",
            ];
            const { status, stderr } = spawnSync("git", [...identity, ...args], {
                cwd: directory,
                encoding: "utf8",
            });
            if (status !== 0) throw new Error(stderr);
        };
        const commit = (files: string[]) => {
            for (const file of files) {
                mkdirSync(dirname(at(file)), { recursive: true });
                writeFileSync(at(file), `${Math.random()}`);
            }
            git("add", "--force", "--", ".github", ...files);
            git("commit", "--quiet", "--message", "a change");
        };
        rmSync(at("tools")); // a link to the checkout's
        git("init", "--quiet");
        mkdirSync(at(".github", "scripts"), { recursive: true });
        cpSync(changedStacks, at(".github", "scripts", "changed-stacks.sh"));
        commit(["Pulumi.dev.yaml", "Pulumi.staging.yaml", "Pulumi.prod.yaml", "Pulumi.yaml", "index.ts"]);
        commit(files);
        return step("preview.stacks.changed", { IS_FORK: "false" }).stdout;
    }

    it.each(["components/acrPull.ts", "app/index.html", "package-lock.json", "Pulumi.yaml"])(
        "previews every stack for a change of %s",
        (file) => {
            expect(touched("README.md", file)).toBe('stacks=["dev","prod","staging"]\n');
        },
    );

    it("previews only the stack whose settings change", () => {
        expect(touched("Pulumi.staging.yaml", "docs/ci.md")).toBe('stacks=["staging"]\n');
    });

    it("previews a stack that the change adds", () => {
        expect(touched("Pulumi.test.yaml", "Pulumi.prod.yaml")).toBe('stacks=["prod","test"]\n');
    });

    it("previews nothing for what the program does not run", () => {
        const files = ["docs/ci.md", "tests/index.test.ts", "sandbox/cli.ts", "tools/x.ts", "CHANGELOG.md"];
        expect(touched(...files, "app/notes.md", ".github/workflows/preview.yml")).toBe("stacks=[]\n");
    });

    it("says that a fork's pull request gets no preview, and has none", () => {
        touched("index.ts");
        const { status, stdout } = step("preview.stacks.changed", { IS_FORK: "true" });
        expect({ status, stdout }).toEqual({
            status: 0,
            stdout:
                "::notice::No preview: GitHub gives a fork's pull request no token to log in to Azure with. " +
                "Whoever may push can push the branch to this repository.\nstacks=[]\n",
        });
    });

    it("keeps what pulumi prints, also where it fails", () => {
        stub("pulumi", "echo '{}'; exit 255");
        expect(step("preview.preview.preview").status).toBe(0);
        expect(calls()).toEqual(["pulumi preview --stack dev --json"]);
        expect(read("preview.json")).toBe("{}\n");
    });

    it.each([
        ["nodeCount", "false", 0, "**Nothing to decide:** 1 update"],
        ["dnsPrefix", "false", 1, "**Stop:** 1 cluster would be replaced"],
        ["dnsPrefix", "true", 0, "**Meant:** 1 cluster would be replaced"],
        ["failed", "true", 2, "**Failed:** the preview ended with an error"],
    ])(
        "reports on %s, with the label replace-allowed %s, and ends with %i",
        (name, isAllowed, status, text) => {
            cpSync(fixture(name), at("preview.json"));
            expect(step("preview.preview.report", { IS_REPLACE_ALLOWED: isAllowed }).status).toBe(status);
            expect(read("report-dev.md")).toContain(`## \`dev\`\n\n${text}`);
        },
    );

    const comments = "repos/contoso/aks-acr/issues/7/comments";
    const environment = { GITHUB_REPOSITORY: "contoso/aks-acr", PULL_REQUEST: "7", COMMIT: "c0ffee" };
    const comment = (id: number, login: string, body: string) => ({ id, user: { login }, body });

    /** Runs the comment step where the pull request has these comments. */
    function commented(existing: object[], result = "success") {
        writeFileSync(at("pages.json"), JSON.stringify([existing.slice(0, 1), existing.slice(1)]));
        stub(
            "gh",
            `if [ "$2" = --paginate ]; then cat pages.json; else cp body.md "body-$(wc -l < calls).md"; fi`,
        );
        return step("preview.comment.comment", { ...environment, RESULT: result });
    }

    it("writes a comment for each stack that has none", () => {
        writeFileSync(at("report-dev.md"), "## `dev`\n");
        writeFileSync(at("report-prod.md"), "## `prod`\n");
        expect(commented([]).status).toBe(0);
        expect(calls()).toEqual([
            `gh api --paginate --slurp ${comments}`,
            `gh api --silent ${comments} --field body=@body.md`,
            `gh api --paginate --slurp ${comments}`,
            `gh api --silent ${comments} --field body=@body.md`,
        ]);
        expect(read("body-2.md")).toBe("<!-- report-dev.md -->\n## `dev`\nFor c0ffee.\n");
        expect(read("body-4.md")).toBe("<!-- report-prod.md -->\n## `prod`\nFor c0ffee.\n");
    });

    it("updates its own comment on the stack, and nobody else's", () => {
        writeFileSync(at("report-dev.md"), "## `dev`\n");
        commented([
            comment(1, "mallory", "<!-- report-dev.md -->\nNo changes."),
            comment(2, "github-actions[bot]", "<!-- report-prod.md -->\n## `prod`"),
            comment(3, "github-actions[bot]", "<!-- report-dev.md -->\n## `dev`"),
        ]);
        expect(calls()[1]).toBe(
            "gh api --silent --method PATCH repos/contoso/aks-acr/issues/comments/3 --field body=@body.md",
        );
    });

    it("fails after it has commented where a preview failed", () => {
        writeFileSync(at("report-dev.md"), "## `dev`\n");
        expect(commented([], "failure").status).toBe(1);
        expect(calls()).toHaveLength(2);
    });

    it("fails without a comment where no preview got as far as a report", () => {
        expect(commented([], "failure").status).toBe(1);
        expect(calls()).toEqual([]);
    });
});

describe("the deployment of a stack", () => {
    const state = '{"version":3}';
    const digest = `${createHash("sha256").update(`${state}\n`).digest("hex")}  -\n`;

    /** A pulumi whose stack has that state, and whose preview prints that fixture. */
    function stack(preview: string, ending = "") {
        stub(
            "pulumi",
            `if [ "$1" = stack ]; then echo '${state}'; else cat '${fixture(preview)}'; fi\n${ending}`,
        );
    }

    it("notes the state, then plans, and shows whoever approves what the plan does", () => {
        stack("nodeCount");
        expect(step("deploy-stack.plan.plan")).toMatchObject({
            status: 0,
            stdout: expect.stringContaining("**Nothing to decide:** 1 update"),
        });
        expect(calls()).toEqual([
            "pulumi stack export --stack dev",
            "pulumi preview --stack dev --json --save-plan plan.json",
        ]);
        expect(read("state.sha256")).toBe(digest);
    });

    it("leaves a loss to whoever approves", () => {
        stack("dnsPrefix");
        expect(step("deploy-stack.plan.plan")).toMatchObject({
            status: 0,
            stdout: expect.stringContaining("**Stop:** 1 cluster would be replaced"),
        });
    });

    it("ends where the preview fails, and shows why", () => {
        stack("failed", '[ "$1" = stack ]');
        expect(step("deploy-stack.plan.plan")).toMatchObject({
            status: 1,
            stdout: expect.stringContaining("**Failed:**"),
        });
    });

    it("ends where the state cannot be read, before it plans", () => {
        stub("pulumi", "exit 255");
        expect(step("deploy-stack.plan.plan").status).toBe(255);
        expect(calls()).toEqual(["pulumi stack export --stack dev"]);
    });

    it("goes on where the stack is as it was planned for", () => {
        stack("nothing");
        writeFileSync(at("state.sha256"), digest);
        expect(step("deploy-stack.apply.check the state")).toMatchObject({ status: 0, stdout: "" });
    });

    it("refuses a plan for another state", () => {
        stack("nothing");
        writeFileSync(
            at("state.sha256"),
            digest.replace(/^./, (first) => (first === "0" ? "1" : "0")),
        );
        expect(step("deploy-stack.apply.check the state")).toMatchObject({
            status: 1,
            stdout: "::error::The stack dev has changed since this was planned. Re-run all jobs for a new plan.\n",
        });
    });

    it("applies the plan, and shows all that pulumi says", () => {
        stub("pulumi", "echo updating; echo 'warning: x' >&2");
        expect(step("deploy-stack.apply.apply")).toMatchObject({
            status: 0,
            stdout: "updating\nwarning: x\n",
            stderr: "",
        });
        expect(calls()).toEqual(["pulumi up --stack dev --yes --plan plan.json"]);
    });

    it("shows no value where the update leaves the plan, and fails as pulumi does", () => {
        const violation =
            "resource urn:x violates plan: properties changed: ~~a[{b:{one\ntwo}}]!={b:{three}}]";
        writeFileSync(
            at("up.txt"),
            `before\n  x error: ${violation}\nDiagnostics:\n  ${violation}\n\nResources:\n  1 errored\n`,
        );
        stub("pulumi", "cat up.txt; exit 255");
        expect(step("deploy-stack.apply.apply")).toMatchObject({
            status: 255,
            stdout:
                "before\n  x error: resource urn:x violates plan; the values are not shown, for they may be secret\n" +
                "Resources:\n  1 errored\n",
        });
    });
});

describe("the drift workflow", () => {
    /** Compares where the first file is the preview, and the second the one that looks at Azure. */
    function compared(known: string, real: string) {
        stub("pulumi", `if [ "$5" = --refresh ]; then cat '${real}'; else cat '${known}'; fi`);
        return step("drift.check.compare");
    }

    it("finds nothing where Azure is as the stack left it, whatever is not deployed yet", () => {
        expect(compared(fixture("nodeCount"), fixture("nodeCount")).status).toBe(0);
        expect(calls()).toEqual([
            "pulumi preview --stack dev --json",
            "pulumi preview --stack dev --json --refresh",
        ]);
        expect(read("drift-dev.md")).toBe("");
    });

    it("finds what a look at Azure adds, and does not fail for a loss", () => {
        expect(compared(fixture("nothing"), fixture("dnsPrefix")).status).toBe(0);
        expect(read("drift-dev.md")).toContain("1 cluster would be replaced");
    });

    it("takes a warning for no drift", () => {
        const warned = JSON.parse(readFileSync(fixture("warned"), "utf8"));
        writeFileSync(at("calm.json"), JSON.stringify({ ...warned, diagnostics: [] }));
        expect(compared(at("calm.json"), fixture("warned")).stdout).toContain("1 new resource");
        expect(read("drift-dev.md")).toBe("");
    });

    it("fails where Azure cannot be asked, and says nothing about drift", () => {
        expect(compared(fixture("nothing"), fixture("failed"))).toMatchObject({
            status: 2,
            stderr: expect.stringContaining("**Failed:**"),
        });
        expect(existsSync(at("drift-dev.md"))).toBe(false);
    });

    /** Runs the issue step with that report where the repository has these issues, and gives the calls but for the list. */
    function issues(report: string | undefined, ...existing: { number: number; title: string }[]) {
        if (report !== undefined) writeFileSync(at("drift-dev.md"), report);
        writeFileSync(at("issues.json"), JSON.stringify(existing));
        stub("gh", 'if [ "$2" = list ]; then cat issues.json; fi');
        expect(step("drift.issue.issue", { GH_REPO: "contoso/aks-acr" }).status).toBe(0);
        const [list, ...rest] = calls();
        if (report !== undefined)
            expect(list).toBe("gh issue list --app github-actions --limit 500 --json number,title");
        return rest;
    }
    const others = { number: 1, title: "Drift: prod" };
    const own = { number: 4, title: "Drift: dev" };

    it("opens an issue for a stack that has none", () => {
        expect(issues("1 update.\n", others)).toEqual([
            "gh issue create --title Drift: dev --body-file body.md",
        ]);
        expect(read("body.md")).toBe(
            "Azure is not as the stack `dev` left it. `pulumi up --refresh --stack dev` would do this:\n\n1 update.\n",
        );
    });

    it("updates the issue that is open", () => {
        expect(issues("1 update.\n", others, own)).toEqual(["gh issue edit 4 --body-file body.md"]);
    });

    it("closes the issue when the drift is gone", () => {
        expect(issues("", others, own)).toEqual([
            "gh issue close 4 --comment Azure is as the stack left it.",
        ]);
    });

    it("does nothing where there is no drift and no issue", () => {
        expect(issues("", others)).toEqual([]);
    });

    it("leaves the issue of a stack that could not be compared as it is", () => {
        expect(issues(undefined, own)).toEqual([]);
    });
});

describe("the preparation of a job", () => {
    const { version } = JSON.parse(
        readFileSync(join(checkout, "node_modules", "@pulumi", "pulumi", "package.json"), "utf8"),
    );
    const archive = `pulumi-v${version}-linux-x64.tar.gz`;
    const environment = () => ({ RUNNER_TEMP: at("temp"), GITHUB_PATH: at("path") });

    /** Lets curl find an archive of a program, and a list of checksums; wrong ones if so told. */
    function release(program: string, archive: string, checksums: string, isWrong: boolean) {
        mkdirSync(dirname(at("site", program)), { recursive: true });
        mkdirSync(at("temp"));
        writeFileSync(at("site", program), "the program");
        spawnSync("bash", ["-c", `tar -czf ${archive} ${program}`], { cwd: at("site") });
        const actual = createHash("sha256")
            .update(readFileSync(at("site", archive)))
            .digest("hex");
        writeFileSync(at("site", checksums), `${isWrong ? "f".repeat(64) : actual}  ${archive}\n`);
        stub("curl", `cp '${at("site")}/'"$(basename "\${@: -1}")" .`);
    }

    /** Pulumi's checksums are those of all platforms. */
    function pulumi(isWrong: boolean): void {
        const checksums = `pulumi-${version}-checksums.txt`;
        release("pulumi/pulumi", archive, checksums, isWrong);
        appendFileSync(at("site", checksums), `${"0".repeat(64)}  pulumi-v${version}-darwin-x64.tar.gz\n`);
    }

    /** A tar archive for a zip: not every machine has zip and unzip, and GitHub's have. */
    function kubelogin(isWrong: boolean): void {
        const zip = "kubelogin-linux-amd64.zip";
        release("bin/linux_amd64/kubelogin", zip, `${zip}.sha256`, isWrong);
        stub("unzip", 'tar -xzf "$2"');
    }

    it("installs the CLI of the SDK's version", () => {
        pulumi(false);
        expect(step("prepare.install Pulumi", environment()).status).toBe(0);
        const releases = "curl -fsSLO --retry 3 https://get.pulumi.com/releases/sdk";
        expect(calls()).toEqual([`${releases}/${archive}`, `${releases}/pulumi-${version}-checksums.txt`]);
        expect(read("path")).toBe(`${at("temp", "pulumi")}\n`);
        expect(read(join("temp", "pulumi", "pulumi"))).toBe("the program");
    });

    it("installs kubelogin", () => {
        kubelogin(false);
        expect(step("prepare.install kubelogin", environment()).status).toBe(0);
        const url = "https://github.com/Azure/kubelogin/releases/download/v0.2.19/kubelogin-linux-amd64.zip";
        expect(calls()).toEqual([
            `curl -fsSLO --retry 3 ${url}`,
            `curl -fsSLO --retry 3 ${url}.sha256`,
            "unzip -qo kubelogin-linux-amd64.zip",
        ]);
        expect(read("path")).toBe(`${at("temp", "bin", "linux_amd64")}\n`);
        const mode = statSync(at("temp", "bin", "linux_amd64", "kubelogin")).mode;
        expect(mode & 0o111).toBe(0o111);
    });

    it.each([
        ["Pulumi", pulumi, "pulumi"],
        ["kubelogin", kubelogin, "bin"],
    ])("installs no %s whose checksum is another", (name, releaseOf, made) => {
        releaseOf(true);
        expect(step(`prepare.install ${name}`, environment()).status).toBe(1);
        expect(existsSync(at("temp", made))).toBe(false);
    });
});
