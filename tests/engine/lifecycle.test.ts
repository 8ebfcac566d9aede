import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Agent, request as send } from "undici";
import { connect } from "../../sandbox/kubernetes/client";
import { podsOf } from "../../sandbox/result";
import {
    azure,
    changes,
    edit,
    eventually,
    home,
    inHome,
    type Outputs,
    outputs,
    ownPage,
    sandbox,
    startOver,
    succeed,
    up,
} from "./sandbox";

// One stack's life, in order, on the real engine: each test goes on where the one before it ended.
jest.setTimeout(20 * 60_000);

let first: Outputs;
const client = () => connect(first.kubeconfig);
const pods = () => podsOf(client(), first.namespace);
const allReady = async () => {
    const found = await pods();
    return found.length === 2 && found.every(({ ready }) => ready) ? found : undefined;
};

/** Address of the Service, which this machine reaches through the cluster's network. */
async function serviceUrl(): Promise<string> {
    const service = await client().call("GET", `/api/v1/namespaces/${first.namespace}/services/nginx0`);
    return `http://${service.spec.clusterIP}/`;
}

/** Command lines of all processes, as anybody on the machine can see them. */
function commandLines(): string {
    return readdirSync("/proc")
        .filter((name) => /^\d+$/.test(name))
        .map((pid) => {
            try {
                return readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ");
            } catch {
                return "";
            }
        })
        .join("\n");
}

/** What of the sandbox is on the machine: processes, mounts, network devices, cgroups and files in /run. */
function leftovers(): string[] {
    const find = (...args: string[]) => execFileSync("find", args, { encoding: "utf8" });
    const ours = (text: string, mark: string | RegExp) => text.split("\n").filter((line) => line.match(mark));
    return [
        ...ours(commandLines(), new RegExp(`${inHome()}/|aks-acr/${id()}`)),
        ...ours(readFileSync("/proc/self/mountinfo", "utf8"), new RegExp(`${inHome()}/|aks-acr/${id()}`)),
        ...ours(execFileSync("ip", ["-oneline", "link"], { encoding: "utf8" }), `aa${id()}`),
        ...ours(find("/sys/fs/cgroup", "-name", `*${id()}*`), id()),
        ...ours(find("/run", "-maxdepth", "3", "-name", `*${id()}*`), id()),
    ];
}

/** Process id of the services of the sandbox under test. */
function servicesProcess(): number {
    const isOurs = (pid: string) => {
        const text = (file: string) => readFileSync(`/proc/${pid}/${file}`, "latin1");
        try {
            return (
                text("cmdline").includes(resolve(__dirname, "..", "..", "sandbox", "services.ts")) &&
                text("environ").includes(`AKS_ACR_SANDBOX=${home}`)
            );
        } catch {
            return false;
        }
    };
    return Number(readdirSync("/proc").find((name) => /^\d+$/.test(name) && isOurs(name)));
}

function id(): string {
    return createHash("sha256").update(inHome()).digest("hex").slice(0, 8);
}

beforeAll(startOver);

afterAll(async () => {
    await sandbox("stop");
});

describe("a stack in the sandbox", () => {
    it("comes up from nothing: two Running pods of the image's digest, and the page", async () => {
        const { code, output } = await sandbox("start");
        expect(output).toContain("Hello from AKS");
        expect(code).toBe(0);
        first = await outputs();
        expect(first.image).toBe(`${first.loginServer}/nginx@${first.imageDigest}`);
        expect(first.registryName).toMatch(/^aksnginxdevacr[a-z0-9]{6}$/);
        expect(first.deployment).toBe("nginx0-deployment");
        expect(first.pullAccess).toMatchObject({ scope: first.registryId, state: "assigned" });
        const running = await pods();
        expect(running.map(({ phase, digest }) => [phase, digest])).toEqual([
            ["Running", first.imageDigest],
            ["Running", first.imageDigest],
        ]);
    });

    it("is unchanged by a second update", async () => {
        const output = await up();
        expect(changes(output)).toEqual([]);
        expect(output).toMatch(/Resources:\n +20 unchanged/);
    });

    it("shows nothing in a preview after a refresh", async () => {
        await succeed("run", "refresh", "--yes", "--skip-preview");
        expect(await succeed("run", "preview", "--expect-no-changes")).toMatch(/20 unchanged/);
    });

    it("has a kubeconfig that works with kubectl as it stands, where kubectl is installed", async () => {
        const { items } = await client().call("GET", "/api/v1/nodes");
        expect(items).toHaveLength(1);
    });

    it("rolls out a changed page as a new digest, without a failed request", async () => {
        edit(ownPage(), "<h1>Hello from AKS</h1>", "<h1>Hello again</h1>");
        const url = await serviceUrl();
        const seen = { old: 0, new: 0, failed: [] as string[] };
        let polling = true;
        const poll = (async () => {
            while (polling) {
                const page = await fetch(url, { signal: AbortSignal.timeout(5000) })
                    .then(async (answer) => `${answer.status} ${await answer.text()}`)
                    .catch((error: Error) => `${error} ${error.cause ?? ""}`);
                if (page.includes("Hello again")) seen.new++;
                else if (page.includes("Hello from AKS</h1>")) seen.old++;
                else seen.failed.push(page);
                await new Promise((next) => setTimeout(next, 10));
            }
        })();
        const output = await up();
        // A kept connection stays with its pod until that is drained.
        await eventually(async () => (seen.new > 10 ? true : undefined), 30, "the new page");
        polling = false;
        await poll;
        expect(changes(output)).toEqual([
            "docker:index:Image nginx-image updated",
            "kubernetes:apps/v1:Deployment nginx updated",
        ]);
        expect(seen.failed).toEqual([]);
        expect(seen.old).toBeGreaterThan(10);
        const { imageDigest } = await outputs();
        expect(imageDigest).not.toBe(first.imageDigest);
    });

    it("takes another node count as one update, with the role untouched", async () => {
        await succeed("run", "config", "set", "--path", "aks-acr:cluster.create.systemPool.count", "3");
        const preview = await succeed("run", "preview");
        expect(preview).not.toMatch(/replace|delete/);
        expect(preview).toMatch(/~ 1 to update\n +19 unchanged/);
        expect(changes(await up())).toEqual(["azure-native:containerservice:ManagedCluster cluster updated"]);
    });

    it("keeps its registry and resource group when the stack is renamed", async () => {
        await succeed("run", "stack", "rename", "renamed");
        await succeed("run", "config", "set", "--path", "aks-acr:cluster.create.tier", "Standard");
        const preview = await succeed("run", "preview", "--stack", "renamed");
        // The name of a cluster that is given none is the stack's.
        expect(preview).toMatch(/ManagedCluster cluster replace/);
        expect(preview).not.toMatch(/(Registry registry|ResourceGroup aks-acr|RoleAssignment acr-pull) \w/);
        await succeed("run", "config", "set", "--path", "aks-acr:cluster.create.name", "nginx-dev");
        await succeed("run", "config", "rm", "--path", "aks-acr:cluster.create.tier");
        expect(await succeed("run", "preview", "--stack", "renamed")).toMatch(/20 unchanged/);
        await succeed("run", "stack", "rename", "dev");
    });

    it("keeps secrets out of its state, its logs and command lines", async () => {
        const secrets = [...first.kubeconfig.matchAll(/"?client-key-data"?: "?([\w+/=]{40})/g)].map(
            (match) => match[1] ?? "",
        );
        expect(secrets).toHaveLength(1);
        secrets.push(readFileSync(inHome("passphrase"), "utf8"));
        let lines = "";
        const watch = setInterval(() => {
            lines += commandLines();
        }, 20);
        // A new digest, so that a push with its token happens while the command lines are watched.
        edit(inHome("project", "app", "index.html"), "Hello again", "Hello once more");
        const output = await up();
        clearInterval(watch);
        const files = (directory: string) =>
            readdirSync(inHome(directory), { recursive: true, withFileTypes: true })
                .filter((entry) => entry.isFile())
                .map((entry) => readFileSync(join(entry.parentPath ?? entry.path, entry.name), "latin1"))
                .join("\n");
        // A JSON Web Token begins so, whatever it is for.
        const anyToken = /eyJ[\w-]{20,}\.eyJ[\w-]{20,}/;
        for (const [where, text] of Object.entries({
            state: files("state"),
            logs: files("logs"),
            "command lines": lines,
            "what is printed": output,
        })) {
            const found = secrets.filter((secret) => text.includes(secret)).length;
            expect({ where, found, token: anyToken.test(text) }).toEqual({ where, found: 0, token: false });
        }
        expect(output).toContain("~ 2 updated");
    });

    it("lets no pod pull without the role, and lets it pull again with it", async () => {
        const { principalId, scope } = first.pullAccess;
        const grant = ["--assignee", principalId, "--role", "AcrPull", "--scope", scope];
        await succeed("azure", "role", "assignment", "delete", ...grant);
        edit(inHome("project", "app", "index.html"), "Hello once more", "Hello at last");
        const update = sandbox("run", "up", "--yes", "--skip-preview");
        const waiting = await eventually(
            async () => {
                const { items } = await client().call("GET", `/api/v1/namespaces/${first.namespace}/pods`);
                return items
                    .map((pod: any) => pod.status.containerStatuses?.[0]?.state?.waiting)
                    .find((state: any) => state?.reason === "ImagePullBackOff");
            },
            60,
            "a pod in ImagePullBackOff",
        );
        expect(waiting.message).toMatch(
            /failed to authorize: failed to fetch (anonymous|oauth) token: .*401 Unauthorized/,
        );
        expect(await (await fetch(await serviceUrl())).text()).toContain("Hello once more");
        await succeed("azure", "role", "assignment", "create", ...grant);
        const { code, output } = await update;
        expect(output).toMatch(/warning: .*(ErrImagePull|ImagePullBackOff).*401 Unauthorized/);
        expect(code).toBe(0);
        await eventually(allReady, 30, "two ready pods");
        expect(await (await fetch(await serviceUrl())).text()).toContain("Hello at last");
    });

    it("lets the kubelet pull and not push", async () => {
        const [cluster = ""] = readdirSync(inHome("clusters"));
        const provider = inHome("clusters", cluster, "bin", "acr-credential-provider");
        const request = {
            apiVersion: "credentialprovider.kubelet.k8s.io/v1",
            kind: "CredentialProviderRequest",
            image: first.image,
        };
        const answer = JSON.parse(
            execFileSync(provider, { input: JSON.stringify(request), encoding: "utf8" }),
        );
        const { username, password } = answer.auth[first.loginServer];
        const ask = async (action: string) => {
            const scope = `repository:nginx:${action}`;
            const ca = readFileSync(inHome("certificates", "authority.crt"), "utf8");
            const { statusCode, body } = await send(
                `https://${first.loginServer}/oauth2/token?service=${first.loginServer}&scope=${scope}`,
                {
                    dispatcher: new Agent({ connect: { ca } }),
                    headers: {
                        authorization: `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`,
                    },
                },
            );
            const { access_token: token = "" } = (await body.json()) as { access_token?: string };
            const claims =
                token && JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
            return { statusCode, actions: claims ? claims.access.flatMap((each: any) => each.actions) : [] };
        };
        expect(await ask("pull")).toEqual({ statusCode: 200, actions: ["pull"] });
        expect((await ask("push")).actions).not.toContain("push");
        expect((await ask("pull,push")).actions).not.toContain("push");
    });

    it("goes on after its services were killed", async () => {
        process.kill(servicesProcess(), "SIGKILL");
        expect((await sandbox("start")).code).toBe(0);
        await eventually(allReady, 60, "two ready pods");
    });

    it("finds its state again after a stop", async () => {
        await succeed("stop");
        expect(leftovers()).toEqual([]);
        const output = await succeed("start");
        expect(output).toMatch(/20 unchanged|19 unchanged/);
        await eventually(allReady, 60, "two ready pods");
    });

    it("takes the workload along with a cluster that is replaced", async () => {
        await succeed("run", "config", "set", "--path", "aks-acr:cluster.create.dnsPrefix", "another");
        const replaced = changes(await up()).filter((line) => line.endsWith(" replaced"));
        expect(replaced).toEqual([
            "azure-native:containerservice:ManagedCluster cluster replaced",
            "kubernetes:apps/v1:Deployment nginx replaced",
            "kubernetes:core/v1:Namespace nginx replaced",
            "kubernetes:core/v1:Service nginx replaced",
            "kubernetes:policy/v1:PodDisruptionBudget nginx replaced",
        ]);
        first = await outputs();
        await eventually(allReady, 60, "two ready pods");
        expect(changes(await up())).toEqual([]);
    });

    it("destroys everything, and leaves nothing in Azure or on the machine", async () => {
        await succeed("run", "destroy", "--yes", "--skip-preview");
        expect(await azure("resource", "list")).toEqual([]);
        const grants = await azure("role", "assignment", "list");
        expect(grants.filter(({ scope }: any) => scope.includes("/resourceGroups/"))).toEqual([]);
        expect(readdirSync(inHome("clusters"))).toEqual([]);
        expect(readdirSync(inHome("registries"))).toEqual([]);
        await succeed("stop");
        expect(leftovers()).toEqual([]);
    });
});

describe("a caller's permissions", () => {
    it("fail the update within seconds, before the cluster is begun, with what to do", async () => {
        await succeed("azure", "login", "--username", "contributor@example.com");
        const { code, output, seconds } = await sandbox("run", "up", "--yes", "--skip-preview");
        expect(code).not.toBe(0);
        expect(seconds).toBeLessThan(30);
        expect(output).toMatch(
            /contributor@example\.com \(object id [\da-f-]{36}\) may not assign roles on \/subscriptions\//,
        );
        expect(output).toContain(
            'az role assignment create --role "Role Based Access Control Administrator" --assignee',
        );
        expect(output).not.toContain("ManagedCluster cluster creating");
    });

    it("that are still propagating are waited for", async () => {
        await succeed("azure", "login", "--username", "owner@example.com");
        await succeed("azure", "config", "set", "propagation=4");
        const output = await up();
        expect(output).toContain(
            "Azure has not yet taken in that the control plane may use the kubelet identity; try 2 of 23 in 5 s.",
        );
        expect(existsSync(inHome("state"))).toBe(true);
        first = await outputs();
        await eventually(allReady, 60, "two ready pods");
        await succeed("run", "destroy", "--yes", "--skip-preview");
    });
});
