import { execFile } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dump } from "js-yaml";
import { type StateContainer, startAzurite } from "./azurite";
import {
    azure,
    changes,
    engineEnvironment,
    eventually,
    inHome,
    type Outcome,
    type Outputs,
    sandbox,
    startOver,
    succeed,
} from "./sandbox";

// Stacks of a team, kept in an Azure Blob container: what docs/state.md says, with the emulator in place of Azure Storage.
jest.setTimeout(5 * 60_000);

let container: StateContainer;
let environment: NodeJS.ProcessEnv;

/** A `pulumi` that runs. */
interface Run {
    done: Promise<Outcome>;
    /** Kills it with all that it has started, as the end of a CI runner does. */
    kill(): void;
}

/** Starts `pulumi` in the sandbox, with its stacks in the container unless the settings say otherwise. */
function begin(args: string[], settings: NodeJS.ProcessEnv = {}): Run {
    const since = Date.now();
    let output = "";
    const options = { cwd: inHome("project"), env: { ...environment, ...settings }, maxBuffer: 1e8 };
    const child = execFile(inHome("bin", "pulumi"), args, options);
    const collect = (text: string) => {
        output += text;
    };
    child.stdout?.on("data", collect);
    child.stderr?.on("data", collect);
    return {
        done: new Promise((done) =>
            child.on("close", (code) =>
                done({ code: code ?? 1, output, seconds: (Date.now() - since) / 1000 }),
            ),
        ),
        kill() {
            // Stopped first, so that it neither starts nor reaps a process any more.
            child.kill("SIGSTOP");
            const threads = `/proc/${child.pid}/task`;
            const started = readdirSync(threads).flatMap((thread) =>
                readFileSync(`${threads}/${thread}/children`, "utf8").split(" ").filter(Boolean),
            );
            for (const pid of started) process.kill(Number(pid), "SIGKILL");
            child.kill("SIGKILL");
        },
    };
}

/** Runs `pulumi`, which must succeed, and gives its output. */
async function pulumi(args: string[], settings?: NodeJS.ProcessEnv): Promise<string> {
    const { code, output } = await begin(args, settings).done;
    if (code !== 0) throw new Error(`pulumi ${args.join(" ")} ended with exit code ${code}:\n${output}`);
    return output;
}

const stack = "web";
const onStack = ["--stack", stack];
const update = ["up", "--yes", "--skip-preview", ...onStack];

async function outputs(): Promise<Outputs> {
    return JSON.parse(await pulumi(["stack", "output", "--json", "--show-secrets", ...onStack]));
}

interface Resource {
    urn: string;
    type: string;
    id?: string;
}

interface Deployment {
    /** Left out while there are none. */
    resources?: Resource[];
    /** Operations whose end the state does not know. */
    pending_operations?: { type: string; resource: Resource }[];
}

async function deployment(): Promise<Deployment> {
    return JSON.parse(await pulumi(["stack", "export", ...onStack])).deployment;
}

const pending = async () => (await deployment()).pending_operations ?? [];
const resources = async () => (await deployment()).resources ?? [];
const urns = async () => (await resources()).map(({ urn }) => urn).sort();
const locks = async () => (await container.names()).filter((name) => name.startsWith(".pulumi/locks/"));
const locked =
    /^error: the stack is currently locked by 1 lock\(s\)\. Either wait for the other process\(es\) to end or delete the lock file with `pulumi cancel`\.\n +azblob:\/\/state\/\.pulumi\/locks\/organization\/aks-acr\/web\/[\da-f-]{36}\.json\?\S+: created by \S+ \(pid \d+\) at \S+$/m;

/** Ids of what there is in Azure, without what a cluster makes by itself. */
async function inAzure(): Promise<string[]> {
    const lists = await Promise.all([azure("resource", "list"), azure("role", "assignment", "list")]);
    return lists
        .flatMap((list) => list.map(({ id }: { id: string }) => id))
        .filter((id) => !/\/resourceGroups\/MC_|\/agentPools\//i.test(id))
        .sort();
}

/** The only cluster in Azure. */
const cluster = async () => (await azure("aks", "list"))[0];

let before: string[];

beforeAll(async () => {
    await startOver();
    // A twenty-fifth of Azure's own durations: 12 s for the cluster.
    await succeed("azure", "config", "set", "latency=0.04");
    [container, before] = await Promise.all([startAzurite(), inAzure()]);
    const own = await engineEnvironment();
    environment = { ...own, ...container.environment };
    await pulumi(["stack", "init", stack, "--secrets-provider", "passphrase"]);
    const config = { "azure-native:location": "westeurope", "aks-acr:image": { import: "nginx:1.29" } };
    const file = inHome("project", `Pulumi.${stack}.yaml`);
    writeFileSync(file, readFileSync(file, "utf8") + dump({ config }));
});

afterAll(async () => {
    container?.stop();
    await sandbox("stop");
});

describe("a killed update", () => {
    const type = "azure-native:containerservice:ManagedCluster";

    it("leaves its lock, and an operation whose end it has not seen", async () => {
        const { done, kill } = begin(update);
        const clusterIsMade = async () => {
            const granted = (await urns()).some((urn) => urn.endsWith("RoleAssignment::acr-pull"));
            return granted && (await cluster())?.provisioningState === "Creating" ? true : undefined;
        };
        await eventually(clusterIsMade, 60, "a cluster in the making, and no more of Azure's");
        kill();
        await done;
        expect((await begin(update).done).output).toMatch(locked);
        // The push of the image may be another; nothing is left behind by that.
        const begun = (await pending()).map((each) => `${each.type} ${each.resource.type}`);
        expect(begun.filter((each) => each !== "creating docker:index/image:Image")).toEqual([
            `creating ${type}`,
        ]);
    });

    it("is not got over by cancelling it and updating again", async () => {
        expect(await pulumi(["cancel", "--yes", ...onStack])).toContain(
            "The currently running update for 'web' has been canceled!",
        );
        expect(await locks()).toEqual([]);
        const { code, output } = await begin(update).done;
        expect(code).not.toBe(0);
        expect(output).toMatch(/^ +\* urn:pulumi:web::\S+::cluster, interrupted while creating$/m);
        expect(output).toContain(`error: cannot create already existing resource '${(await cluster()).id}'`);
    });

    it("is got over by deleting what Azure has made meanwhile, and forgetting the operation", async () => {
        const finished = async () => ((await cluster()).provisioningState === "Succeeded" ? true : undefined);
        await eventually(finished, 30, "Azure has finished the cluster");
        await succeed("azure", "config", "set", "latency=0");
        const { name, id } = await cluster();
        await succeed(
            "azure",
            "aks",
            "delete",
            "--yes",
            "--name",
            name,
            "--resource-group",
            id.split("/")[4],
        );
        await pulumi(["refresh", "--yes", "--skip-preview", ...onStack, "--clear-pending-creates"]);
        expect(await pending()).toEqual([]);
        await pulumi(update);
        expect(await pulumi(update)).toMatch(/Resources:\n +20 unchanged/);
        const made = (await inAzure()).filter((each) => !before.includes(each));
        const known = (await resources()).filter((each) => each.type.startsWith("azure-native:"));
        expect(made).toEqual(known.map((each) => each.id).sort());
    });
});

describe("a stack in a blob container", () => {
    it("is a blob there, with its secrets encrypted in every blob", async () => {
        const { kubeconfig } = await outputs();
        const [, key = ""] = /"?client-key-data"?: "?([\w+/=]{40})/.exec(kubeconfig) ?? [];
        const secrets = [key, readFileSync(inHome("passphrase"), "utf8")];
        expect(secrets.map((secret) => secret.length >= 32)).toEqual([true, true]);
        expect(await pulumi(["stack", "export", "--show-secrets", ...onStack])).toContain(key);
        const names = await container.names();
        expect(names).toContain(".pulumi/stacks/aks-acr/web.json");
        // A JSON Web Token begins so, whatever it is for.
        const anyToken = /eyJ[\w-]{20,}\.eyJ[\w-]{20,}/;
        for (const name of names) {
            const text = await container.read(name);
            const found = secrets.filter((secret) => text.includes(secret)).length;
            expect({ name, found, token: anyToken.test(text) }).toEqual({ name, found: 0, token: false });
        }
    });

    it("refuses a second update while one runs, and loses nothing", async () => {
        const all = await urns();
        await pulumi(["config", "set", "--path", "aks-acr:workload.replicas", "3", ...onStack]);
        const first = begin(update);
        await eventually(async () => (await locks())[0], 20, "a lock");
        const second = await begin(update).done;
        expect(second.code).not.toBe(0);
        expect(second.output).toMatch(locked);
        expect(changes((await first.done).output)).toEqual(["kubernetes:apps/v1:Deployment nginx updated"]);
        expect(await locks()).toEqual([]);
        expect(await urns()).toEqual(all);
        expect(await pulumi(update)).toMatch(/Resources:\n +20 unchanged/);
    });

    it("is moved out of it and back, with its secrets", async () => {
        const { kubeconfig } = await outputs();
        const { PULUMI_BACKEND_URL: blobs } = container.environment;
        const files = `file://${inHome("state")}`;
        const move = ["stack", "migrate", "--yes", "--secrets-provider", "passphrase"];
        await pulumi([...move, blobs, stack], { PULUMI_BACKEND_URL: files });
        await pulumi(["stack", "rm", "--yes", "--force", "--preserve-config", ...onStack]);
        expect(await container.names()).not.toContain(".pulumi/stacks/aks-acr/web.json");
        await pulumi([...move, files, stack]);
        expect((await outputs()).kubeconfig).toBe(kubeconfig);
        expect(await pulumi(["preview", ...onStack])).toMatch(/Resources:\n +20 unchanged/);
    });
});
