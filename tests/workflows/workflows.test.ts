import { readFileSync } from "node:fs";
import { canLint, findings } from "./lint";
import { changedStacks, jobs, prepare, scripts, texts, workflows } from "./workflows";

/** Where the hashes were found to be those versions: docs/ci.md, The pinned actions. */
const pins = [
    "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1",
    "actions/download-artifact@3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c # v8.0.1",
    "actions/setup-node@820762786026740c76f36085b0efc47a31fe5020 # v7.0.0",
    "actions/upload-artifact@043fb46d1a93c77aae656e7c1c64a875d1fc6a0a # v7.0.1",
    "azure/login@7ddb5af1ef8758cf1353cf3b42f940aee27ba21c # v3.0.2",
];

/** How a workflow writes what GitHub fills in. */
const expression = (text: string) => `\${{ ${text} }}`;

const login = { contents: "read", "id-token": "write" };

describe("the workflows", () => {
    (canLint() ? it : it.skip)(
        "leave actionlint, shellcheck and zizmor nothing to say",
        async () => {
            expect(await findings()).toBe("");
        },
        300_000,
    );

    it("give each job the permissions that it uses, and none to what is added", () => {
        expect(Object.values(workflows).map(({ permissions }) => permissions)).toEqual([{}, {}, {}, {}]);
        const permissions = Object.entries(jobs).map(([name, job]) => [name, job.permissions]);
        expect(Object.fromEntries(permissions)).toEqual({
            "deploy.dev": login,
            "deploy.staging": login,
            "deploy.prod": login,
            "deploy-stack.plan": login,
            "deploy-stack.apply": login,
            "drift.check": login,
            "drift.issue": { issues: "write" },
            "preview.stacks": { contents: "read" },
            "preview.preview": login,
            "preview.comment": { "pull-requests": "write" },
        });
    });

    it("never check out or run what is in a pull request where they may write to GitHub", () => {
        const writing = Object.values(jobs).filter(({ permissions = {} }) =>
            Object.entries(permissions).some(([name, value]) => value === "write" && name !== "id-token"),
        );
        expect(writing.flatMap(({ steps = [] }) => steps.map(({ uses = "a script" }) => uses))).toEqual([
            expect.stringMatching(/^actions\/download-artifact@/),
            "a script",
            expect.stringMatching(/^actions\/download-artifact@/),
            "a script",
        ]);
    });

    it("start for pull requests, pushes to main, the clock and people, and never with a stranger's code and secrets", () => {
        const events = Object.entries(workflows).map(([name, { on }]) => [name, Object.keys(on)]);
        expect(Object.fromEntries(events)).toEqual({
            deploy: ["push", "workflow_dispatch"],
            "deploy-stack": ["workflow_call"],
            drift: ["schedule", "workflow_dispatch"],
            preview: ["pull_request"],
        });
        expect(workflows.deploy?.on.push?.branches).toEqual(["main"]);
    });

    it("use actions by the commit of a version, and no others", () => {
        const used = Object.values(texts).flatMap((text) =>
            [...text.matchAll(/^ +(?:- )?uses: (.+)$/gm)].map(([, reference = ""]) => reference),
        );
        expect([...new Set(used)].filter((each) => !each.startsWith("./")).sort()).toEqual(pins);
    });

    it("keep no secret", () => {
        for (const text of Object.values(texts)) expect(text).not.toMatch(/secrets\s*[.[:]/);
    });

    it("put nothing into a script that GitHub would fill in", () => {
        for (const script of Object.values(scripts)) expect(script).not.toContain("${{");
    });

    it("run each script in a bash that stops at the first failure, also within a pipe", () => {
        const running = Object.values(workflows).filter(({ jobs }) =>
            Object.values(jobs).some(({ steps }) => steps?.some(({ run }) => run !== undefined)),
        );
        expect(running.map(({ defaults }) => defaults?.run.shell)).toEqual(["bash", "bash", "bash"]);
        const own = prepare.runs.steps.filter(({ run }) => run !== undefined);
        expect(own.map(({ shell }) => shell)).toEqual(["bash", "bash", "bash"]);
    });

    it("end a job that hangs", () => {
        const unlimited = Object.entries(jobs).filter(([, job]) => !job.uses && !job["timeout-minutes"]);
        expect(unlimited).toEqual([]);
    });

    it("update one stack at a time, behind the environment of its name, and cancel no update", () => {
        const { apply } = workflows["deploy-stack"]?.jobs ?? {};
        const stack = expression("inputs.stack");
        expect(apply?.environment).toBe(stack);
        expect(apply?.concurrency).toEqual({ group: `stack-${stack}`, "cancel-in-progress": false });
        expect(
            Object.entries(scripts).filter(([, script]) => /^pulumi (up|destroy)\b/m.test(script)),
        ).toEqual([["deploy-stack.apply.apply", expect.stringContaining("--plan plan.json")]]);
    });

    it("promote from dev to staging to prod, one after the other", () => {
        const order = Object.entries(workflows.deploy?.jobs ?? {}).map(([name, job]) => [
            name,
            job.needs,
            job.with?.stack,
        ]);
        expect(order).toEqual([
            ["dev", undefined, "dev"],
            ["staging", "dev", "staging"],
            ["prod", "staging", "prod"],
        ]);
    });

    it("log in by OIDC wherever they run pulumi, and to the same state", () => {
        const environments = Object.entries(jobs).flatMap(([name, { env, steps = [] }]) =>
            steps.some(({ run = "" }) => /\bpulumi (?!$)/m.test(run)) ? [[name, env]] : [],
        );
        const environment = {
            ARM_USE_OIDC: "true",
            ARM_CLIENT_ID: expression("vars.AZURE_CLIENT_ID"),
            ARM_TENANT_ID: expression("vars.AZURE_TENANT_ID"),
            ARM_SUBSCRIPTION_ID: expression("vars.AZURE_SUBSCRIPTION_ID"),
            AZURE_TOKEN_CREDENTIALS: "AzureCLICredential",
            PULUMI_BACKEND_URL: expression("vars.PULUMI_BACKEND_URL"),
            STACK: expect.stringMatching(/^\$\{\{ (inputs|matrix)\.stack \}\}$/),
        };
        expect(Object.fromEntries(environments)).toEqual({
            "deploy-stack.apply": environment,
            "deploy-stack.plan": environment,
            "drift.check": environment,
            "preview.preview": environment,
        });
    });

    it("ignore the same paths where they deploy and where they look for changed stacks", () => {
        const ignored = workflows.deploy?.on.push?.["paths-ignore"] ?? [];
        const left = [...readFileSync(changedStacks, "utf8").matchAll(/':!([^']+)'/g)].map(
            ([, path = ""]) => path,
        );
        expect(ignored.map((path) => path.replace(/^\*\*\.md$/, "*.md").replace(/\/\*\*$/, ""))).toEqual(
            left,
        );
    });

    it("stay short enough to be read at one go", () => {
        const long = Object.entries(texts).filter(([, text]) => text.split("\n").length > 120);
        expect(long.map(([path]) => path)).toEqual([]);
    });
});
