import { cpSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { inHome, type Outcome, sandbox, startOver, succeed, up } from "./sandbox";

// The policy pack on the real engine, as a person turns it on.
jest.setTimeout(5 * 60_000);

const checkout = resolve(__dirname, "..", "..");
const pack = ["--policy-pack", "policy", "--policy-pack-config", "policy/sandbox.json"];
const program = inHome("refused");

/** Previews the program that the pack is there to refuse. */
const previewRefused = (...more: string[]) =>
    sandbox("run", "preview", "-C", program, "--policy-pack", join(checkout, "policy"), ...more);

/** What a run says of the pack's rules, each as `<level> <rule>: <message>`, in order. */
function violations(output: string): string[] {
    return [...output.matchAll(/^ +- \[(\w+)\] +(\S+) .*\n.*\n +(.*)$/gm)]
        .map(([, level, rule, message]) => `${level} ${rule}: ${message}`)
        .sort();
}

beforeAll(startOver);

afterAll(async () => {
    await sandbox("stop");
});

describe("the policy pack", () => {
    it("lets a dev stack up", async () => {
        const output = await up(...pack);
        expect(output).toContain("✅ aks-acr@v0.1.0 (local: policy)");
        expect(output).not.toMatch(/\[(mandatory|advisory)\]/);
    });

    it("refuses a production stack with a development cluster", async () => {
        const config = { "azure-native:location": "westeurope" };
        writeFileSync(inHome("project", "Pulumi.prod.yaml"), JSON.stringify({ config }));
        await succeed("run", "stack", "init", "prod");
        const { code, output } = await sandbox("run", "preview", "--stack", "prod", ...pack);
        expect(violations(output)).toEqual([
            "mandatory cluster-no-local-accounts: ManagedCluster cluster: disableLocalAccounts is false; set aks-acr:cluster.create.localAccounts to false, and aks-acr:cluster.create.adminGroupObjectIds.",
            "mandatory cluster-paid-tier: ManagedCluster cluster: sku.tier is Free; set aks-acr:cluster.create.tier to Standard or Premium.",
            "mandatory cluster-zones: ManagedCluster cluster: pool system is in 0 availability zones; set aks-acr:cluster.create.systemPool.zones to at least 2 zones.",
        ]);
        expect(code).not.toBe(0);
    });
});

describe("a program with what the policy pack is there for", () => {
    let refused: Outcome;
    const refusals = (rule: RegExp) =>
        violations(refused.output).filter((each) => rule.test(each.split(" ")[1] ?? ""));

    beforeAll(async () => {
        cpSync(join(checkout, "tests", "policy", "program"), program, { recursive: true });
        await succeed("run", "stack", "init", "refused", "-C", program);
        refused = await previewRefused();
    });

    it("is refused", () => {
        expect(refused.output).toContain("error: preview failed");
        expect(refused.code).not.toBe(0);
    });

    it("is told of its registry's ways in without a role", () => {
        expect(refusals(/^registry-/)).toEqual([
            "mandatory registry-no-admin-user: Registry registry: adminUserEnabled is true; set it to false and assign a role such as AcrPull to who pulls.",
            "mandatory registry-no-anonymous-pull: Registry registry: anonymousPullEnabled is true; set it to false and assign a role such as AcrPull to who pulls.",
        ]);
    });

    it("is told of its wide role on a wide scope", () => {
        expect(refusals(/^role-/)).toEqual([
            "mandatory role-assignments-narrow: RoleAssignment kubelet: roleDefinitionId is Contributor; assign AcrPull or Container Registry Repository Reader or Managed Identity Operator, or add it to this rule's roles.",
            "mandatory role-assignments-narrow: RoleAssignment kubelet: scope is a resource group; assign the role on the one resource that it is for.",
        ]);
    });

    it("is told of its image by tag, and nothing of the one that is not yet known", () => {
        expect(refusals(/^images-/)).toEqual([
            "mandatory images-by-digest-from-allowed-registry: CronJob nightly: container nginx: image nginx:1.29 is from docker.io, not *.azurecr.io; import it (aks-acr:image.import), or add the host to this rule's registries.",
            "mandatory images-by-digest-from-allowed-registry: CronJob nightly: container nginx: image nginx:1.29 is not by digest; run <repository>@sha256:<digest>, as aks-acr:image makes it.",
        ]);
    });

    it("is told of its pod's privileges", () => {
        expect(refusals(/^no-privileged-/)).toEqual([
            "mandatory no-privileged-pods: CronJob nightly: container pushed: privileged is true; remove it.",
            "mandatory no-privileged-pods: CronJob nightly: hostNetwork is true; remove it.",
        ]);
    });

    it("is warned only by rules that are configured so, and not by ones that are off", async () => {
        const configuration = inHome("advisory.json");
        const levels = { all: "advisory", "no-privileged-pods": "disabled" };
        writeFileSync(
            configuration,
            JSON.stringify({ ...levels, "required-tags": { tags: ["owner"], enforcementLevel: "advisory" } }),
        );
        const { code, output } = await previewRefused("--policy-pack-config", configuration);
        const rules = violations(output).map((each) => each.split(":")[0]);
        expect([...new Set(rules)]).toEqual([
            "advisory images-by-digest-from-allowed-registry",
            "advisory registry-no-admin-user",
            "advisory registry-no-anonymous-pull",
            "advisory required-tags",
            "advisory role-assignments-narrow",
        ]);
        expect(code).toBe(0);
    });
});
