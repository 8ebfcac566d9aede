import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { defaultStack } from "./engine";
import { paths } from "./home";
import { connect, isReady, type KubernetesClient, type KubernetesObject } from "./kubernetes/client";

/** The stack's outputs by name, secrets included. */
async function stackOutputs(
    environment: NodeJS.ProcessEnv,
    stack = defaultStack,
): Promise<Record<string, string>> {
    const args = ["stack", "output", "--json", "--show-secrets", "--stack", stack];
    const { stdout } = await promisify(execFile)(join(paths.bin, "pulumi"), args, {
        cwd: paths.project,
        env: environment,
    });
    return JSON.parse(stdout);
}

/** Pods of a namespace, each with what it runs and where. */
export async function podsOf(client: KubernetesClient, namespace: string) {
    const { items } = await client.call("GET", `/api/v1/namespaces/${namespace}/pods`);
    return (items as KubernetesObject[]).map(({ metadata, spec, status }) => ({
        name: metadata.name as string,
        phase: (status.containerStatuses?.[0]?.state?.waiting?.reason ?? status.phase) as string,
        ready: isReady(status),
        node: spec.nodeName as string,
        address: status.podIP as string,
        digest: (spec.containers[0].image.split("@")[1] ?? "") as string,
    }));
}

/** Shows what `npm start` has brought up: the pods that run, and the page as one of them serves it. */
export async function showResult(environment: NodeJS.ProcessEnv): Promise<void> {
    const { kubeconfig = "", namespace = "" } = await stackOutputs(environment);
    const pods = await podsOf(connect(kubeconfig), namespace);
    console.log("\nPods:");
    for (const { name, phase, node, digest } of pods)
        console.log(`    ${name}  ${phase}  ${node}  ${digest}`);
    const serving = pods.find(({ ready }) => ready);
    if (!serving) return console.log("No pod is ready; `npm run sandbox -- up` waits for them and says why.");
    console.log(`\nThe page from ${serving.name} (http://${serving.address}/):\n`);
    console.log((await pageOf(serving)).trimEnd().replace(/^/gm, "    "));
}

/** Shows in a line for each stack which digest runs there, and the first heading of the page. */
export async function showStacks(environment: NodeJS.ProcessEnv, stacks: string[]): Promise<void> {
    // A kubeconfig for Microsoft Entra runs kubelogin.
    process.env.PATH = environment.PATH;
    const lines = stacks.map(async (stack) => {
        const { kubeconfig, namespace = "", imageDigest } = await stackOutputs(environment, stack);
        if (!kubeconfig) return `    ${stack}: nothing runs`;
        const serving = (await podsOf(connect(kubeconfig), namespace)).find(
            ({ ready, digest }) => ready && digest === imageDigest,
        );
        const page = serving ? await pageOf(serving) : "";
        return `    ${stack}: ${imageDigest}  ${/<h1>(.*?)<\/h1>/.exec(page)?.[1] ?? "no pod is ready"}`;
    });
    console.log((await Promise.all(lines)).join("\n"));
}

async function pageOf({ address }: { address: string }): Promise<string> {
    return await (await fetch(`http://${address}/`)).text();
}
