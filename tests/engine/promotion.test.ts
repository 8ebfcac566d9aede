import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { previewReport } from "../../tools/previewReport";
import { azure, edit, inHome, type Outputs, ownPage, sandbox, startOver, succeed } from "./sandbox";

// Three stacks with the checkout's own settings, side by side, each with a cluster of its own.
jest.setTimeout(20 * 60_000);

type Promoted = Outputs & { promotion: { from: string; image: string; digest: string; at: string } };

async function outputsOf(stack: string): Promise<Promoted> {
    return JSON.parse(await succeed("run", "stack", "output", "--json", "--show-secrets", "--stack", stack));
}

/** What `promote` shows after `Before:` or `After:`, by stack: the digest and the page's heading. */
function shown(output: string, when: "Before" | "After"): Record<string, string> {
    const lines = output.split(`\n${when}:\n`)[1]?.split("\n\n")[0] ?? "";
    return Object.fromEntries(
        [...lines.matchAll(/^ {4}(\w+): (.*)$/gm)].map(([, stack = "", what = ""]) => [stack, what]),
    );
}

/** The report on what a change to a stack's settings would do, and its first line; the change is taken back. */
async function reportOn(stack: string, ...changes: string[][]) {
    const file = inHome("project", `Pulumi.${stack}.yaml`);
    const settings = readFileSync(file, "utf8");
    for (const change of changes) await succeed("run", "config", ...change, "--stack", stack);
    const { output } = await sandbox("run", "preview", "--json", "--stack", stack);
    writeFileSync(file, settings);
    const report = previewReport(output);
    return { ...report, decision: report.markdown.split("\n")[0] };
}

beforeAll(startOver);

afterAll(async () => {
    await sandbox("stop");
});

describe("three stacks", () => {
    it("run the same digest, each out of a registry of its own", async () => {
        const output = await succeed("promote");
        expect(shown(output, "Before")).toEqual({
            dev: "nothing runs",
            staging: "nothing runs",
            prod: "nothing runs",
        });
        const [dev, staging, prod] = await Promise.all(["dev", "staging", "prod"].map(outputsOf));
        const line = `${dev?.imageDigest}  Hello from AKS`;
        expect(shown(output, "After")).toEqual({ dev: line, staging: line, prod: line });
        expect(new Set([dev, staging, prod].map((each) => each?.loginServer)).size).toBe(3);
        expect(staging?.promotion).toMatchObject({
            from: "dev",
            image: dev?.image,
            digest: dev?.imageDigest,
        });
        expect(prod?.promotion).toMatchObject({ from: "staging", image: staging?.image });
        expect(staging?.image).toBe(`${staging?.loginServer}/nginx@${dev?.imageDigest}`);
    });

    it("keep nothing of each other in their states but what is promoted", async () => {
        const dev = await outputsOf("dev");
        const state = await succeed("run", "stack", "export", "--stack", "staging");
        expect(state).toContain(dev.image);
        expect(state).not.toContain(dev.clusterName);
    });

    it("are unchanged by another promotion of the same, the time of it included", async () => {
        const before = await outputsOf("prod");
        const output = await succeed("promote");
        expect(output.match(/Resources:\n +\d+ unchanged\n/g)).toHaveLength(3);
        expect((await outputsOf("prod")).promotion).toEqual(before.promotion);
    });

    it("take a change from dev to staging to prod", async () => {
        const { imageDigest: before } = await outputsOf("dev");
        const page = ownPage();
        edit(page, "<h1>Hello from AKS</h1>", "<h1>Hello, everybody</h1>");
        const output = await succeed("promote");
        const { imageDigest } = await outputsOf("dev");
        expect(imageDigest).not.toBe(before);
        for (const stack of ["dev", "staging", "prod"]) {
            expect(shown(output, "Before")[stack]).toMatch(/Hello from AKS$/);
            expect(shown(output, "After")[stack]).toBe(`${imageDigest}  Hello, everybody`);
        }
    });

    it("pass the policy pack, production included", async () => {
        const pack = ["--policy-pack", "policy", "--policy-pack-config", "policy/sandbox.json"];
        for (const stack of ["dev", "staging", "prod"]) {
            const output = await succeed("run", "preview", "--stack", stack, ...pack);
            expect(output).toContain("✅ aks-acr@v0.1.0 (local: policy)");
            expect(output).not.toMatch(/\[(mandatory|advisory)\]/);
        }
    });

    it("share a registry where one is named: nothing is copied, and each has a grant of its own", async () => {
        const { registryId, image } = await outputsOf("dev");
        await succeed("run", "stack", "init", "sharing", "--no-select");
        const set = (path: string, value: string) =>
            succeed("run", "config", "set", "--path", `aks-acr:${path}`, value, "--stack", "sharing");
        const { clusterId } = await outputsOf("staging");
        await set("image.promote", "dev");
        await set("registry.id", registryId);
        await set("cluster.id", clusterId);
        await set("workload.namespace", "sharing");
        await succeed("run", "up", "--yes", "--skip-preview", "--stack", "sharing");
        const sharing = await outputsOf("sharing");
        expect(sharing.image).toBe(image);
        expect(sharing.pullAccess).toMatchObject({ scope: registryId, state: "assigned" });
        const grants = await azure("role", "assignment", "list", "--scope", registryId);
        expect(grants).toHaveLength(2);
        await succeed("run", "destroy", "--yes", "--skip-preview", "--stack", "sharing");
    });

    it("show no drift where the autoscaler adds nodes, and leave them to it", async () => {
        const { clusterName, resourceGroupName } = await outputsOf("prod");
        const where = ["--resource-group", resourceGroupName];
        const drift = async () => {
            const { output } = await sandbox("run", "preview", "--json", "--refresh", "--stack", "prod");
            return previewReport(output).markdown;
        };
        expect(await drift()).toBe("No changes.\n");
        const pool = ["--cluster-name", clusterName, "--name", "apps"];
        await azure("aks", "nodepool", "scale", ...pool, ...where, "--node-count", "5");
        expect(await drift()).toBe("No changes.\n");
        await succeed("run", "up", "--yes", "--skip-preview", "--refresh", "--stack", "prod");
        const { agentPoolProfiles } = await azure("aks", "show", "--name", clusterName, ...where);
        expect(agentPoolProfiles).toMatchObject([
            { name: "apps", count: 5 },
            { name: "system", count: 3 },
        ]);
        expect(await drift()).toBe("No changes.\n");
    });

    it("refuse in the preview what was never deployed", async () => {
        await succeed("run", "stack", "init", "empty", "--no-select");
        await succeed("run", "stack", "init", "early", "--no-select");
        await succeed("run", "config", "set", "--path", "aks-acr:image.promote", "empty", "--stack", "early");
        const { code, output } = await sandbox("run", "preview", "--stack", "early");
        expect(code).not.toBe(0);
        expect(output).toContain(
            'aks-acr:image.promote is "empty", which runs no image yet; run `pulumi up --stack empty` first',
        );
    });

    it("refuse in the preview a stack that is not there", async () => {
        await succeed("run", "config", "set", "--path", "aks-acr:image.promote", "dve", "--stack", "early");
        const { code, output } = await sandbox("run", "preview", "--stack", "early");
        expect(code).not.toBe(0);
        expect(output).toContain(
            'aks-acr:image.promote is "dve", a stack that is not there; `pulumi stack ls` lists those that are',
        );
    });

    const dnsPrefix = ["set", "--path", "aks-acr:cluster.create.dnsPrefix", "shop"];
    const meant =
        "If it is meant, set `aks-acr:protect` to false in a change of its own first; if not, take back what asks for it.";

    it("protect production: the report stops a renamed dnsPrefix", async () => {
        expect(await reportOn("prod", dnsPrefix)).toMatchObject({
            decision: `**Stop:** this would replace AKS cluster \`cluster\`, which is protected, so Pulumi refuses. ${meant}`,
            exitCode: 2,
        });
    });

    it("protect production: the report stops another registry in place of its own", async () => {
        const { registryId } = await outputsOf("staging");
        const own = ["rm", "--path", "aks-acr:registry.create"];
        expect(
            await reportOn("prod", own, ["set", "--path", "aks-acr:registry.id", registryId]),
        ).toMatchObject({
            decision: `**Stop:** this would delete container registry \`registry\`, which is protected, so Pulumi refuses. ${meant}`,
            exitCode: 2,
        });
    });

    it("tell a reviewer of an unprotected stack what a renamed dnsPrefix does", async () => {
        const { decision, exitCode, markdown } = await reportOn("staging", dnsPrefix);
        expect(decision).toBe(
            "**Stop:** 1 cluster would be replaced; `nginx` is down until the new one is up. Merge only if that is meant.",
        );
        expect(markdown).toContain("forced by `dnsPrefix` `nginx-staging` → `shop`");
        expect(exitCode).toBe(1);
    });

    it("protect production: destroy is refused, and says how to unprotect", async () => {
        const { code, output } = await sandbox(
            "run",
            "destroy",
            "--yes",
            "--skip-preview",
            "--stack",
            "prod",
        );
        expect(code).not.toBe(0);
        expect(output).toMatch(/pulumi state unprotect/);
        const { clusterId } = await outputsOf("prod");
        expect((await azure("resource", "list")).map(({ id }: any) => id)).toContain(clusterId);
    });

    it("refuse in the preview a digest that is gone from its registry", async () => {
        const { registryName } = await outputsOf("dev");
        const images = inHome("registries", registryName, "images");
        rmSync(images, { recursive: true, force: true });
        const { code, output } = await sandbox("run", "preview", "--stack", "staging");
        expect(code).not.toBe(0);
        expect(output).toMatch(
            /aks-acr:image\.promote is "dev", which the registry .* does not have \(nginx@sha256:/,
        );
    });
});
