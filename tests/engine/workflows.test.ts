import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { bashArguments } from "../workflows/workflows";
import {
    azure,
    edit,
    engineEnvironment,
    inHome,
    type Outcome,
    ownPage,
    sandbox,
    startOver,
    succeed,
    up,
} from "./sandbox";

// What the workflows do to a stack: their scripts as they are written, on the real engine. What talks to GitHub is in
// tests/workflows.
jest.setTimeout(5 * 60_000);

let environment: NodeJS.ProcessEnv;

/** Runs a step as GitHub does with `shell: bash`. */
function step(name: string, variables: NodeJS.ProcessEnv = {}): Promise<Omit<Outcome, "seconds">> {
    const options = { cwd: inHome("project"), env: { ...environment, STACK: "dev", ...variables } };
    return new Promise((done) => {
        execFile("bash", bashArguments(name), { ...options, maxBuffer: 1e8 }, (error, stdout, stderr) => {
            const code = typeof error?.code === "number" ? error.code : error ? 1 : 0;
            done({ code, output: stdout + stderr });
        });
    });
}

const file = (name: string) => readFileSync(inHome("project", name), "utf8");
const decision = (report: string) => file(report).split("\n")[2];

beforeAll(async () => {
    await startOver();
    await succeed("run", "stack", "ls");
    environment = await engineEnvironment();
});

afterAll(async () => {
    await sandbox("stop");
});

describe("a deployment", () => {
    it("plans a stack from nothing, and makes what was planned", async () => {
        expect((await step("deploy-stack.plan.plan")).code).toBe(0);
        expect(decision("report.md")).toMatch(
            /^\*\*Nothing to decide:\*\* \d+ new resources, nothing replaced/,
        );
        expect(await step("deploy-stack.apply.check the state")).toEqual({ code: 0, output: "" });
        const { code, output } = await step("deploy-stack.apply.apply");
        expect({ code, output }).toMatchObject({ code: 0 });
        expect(output).toMatch(/Resources:\n +\+ 20 created/);
    });

    it("does exactly what was planned", async () => {
        edit(ownPage(), "<h1>Hello from AKS</h1>", "<h1>Hello from a plan</h1>");
        expect((await step("deploy-stack.plan.plan")).code).toBe(0);
        expect(decision("report.md")).toBe("**Nothing to decide:** 2 updates, nothing replaced or deleted.");
        // What nobody has seen, and so nobody approved.
        await succeed("run", "config", "set", "--path", "aks-acr:workload.replicas", "3");
        const { code, output } = await step("deploy-stack.apply.apply");
        expect(code).not.toBe(0);
        expect(output).toContain("violates plan; the values are not shown, for they may be secret");
        await succeed("run", "config", "rm", "--path", "aks-acr:workload.replicas");
    });

    it("is refused where the stack has changed since it was planned", async () => {
        expect((await step("deploy-stack.plan.plan")).code).toBe(0);
        await up();
        expect(await step("deploy-stack.apply.check the state")).toEqual({
            code: 1,
            output: "::error::The stack dev has changed since this was planned. Re-run all jobs for a new plan.\n",
        });
    });
});

describe("a pull request", () => {
    const report = () => step("preview.preview.report", { IS_REPLACE_ALLOWED: "false" });

    it("gets a report, and passes where nothing is lost", async () => {
        await step("preview.preview.preview");
        expect((await report()).code).toBe(0);
        expect(file("report-dev.md")).toBe("## `dev`\n\nNo changes.\n");
    });

    it("fails where a cluster would be replaced", async () => {
        await succeed("run", "config", "set", "--path", "aks-acr:cluster.create.dnsPrefix", "shop");
        await step("preview.preview.preview");
        await succeed("run", "config", "rm", "--path", "aks-acr:cluster.create.dnsPrefix");
        expect((await report()).code).toBe(1);
        expect(decision("report-dev.md")).toMatch(/^\*\*Stop:\*\* 1 cluster would be replaced; /);
    });
});

describe("the watch for drift", () => {
    it("has nothing to say of a stack that is as it was left", async () => {
        expect((await step("drift.check.compare")).code).toBe(0);
        expect(file("drift-dev.md")).toBe("");
    });

    it("says what somebody changed, and not what is merged and not yet deployed", async () => {
        const [{ name }] = await azure("acr", "list");
        await azure("acr", "update", "--name", name, "--admin-enabled", "true");
        await succeed("run", "config", "set", "aks-acr:tags.team", "web", "--path");
        expect((await step("drift.check.compare")).code).toBe(0);
        expect(file("drift-dev.md")).toContain("`adminUserEnabled` `true` → `false`");
    });
});
