import { getClientToken } from "@pulumi/azure-native/authorization/getClientToken.js";
import { getRegistryImage } from "@pulumi/docker/getRegistryImage.js";
import { getRegistryImageManifests } from "@pulumi/docker/getRegistryImageManifests.js";
import * as pulumi from "@pulumi/pulumi";
import type { ExistingRegistry } from "./components/existing";
import { architecturesOfImage } from "./components/registryImage";
import { type Caller, exchangeForRegistryToken, registryAudience } from "./components/registryToken";
import type { Settings } from "./settings";

/** What an image must fit to. */
interface Surroundings {
    /** The registry, where it is there already. */
    registry: ExistingRegistry | undefined;
    /** Architectures of the cluster's nodes; empty where they are not known. */
    nodes: string[];
    caller: Caller;
    problems: string[];
}

/** What ContainerImage is told, and the architecture that the image's pods are bound to, if they are. */
export async function imagePlan(image: Settings["image"], around: Surroundings) {
    const { build, import: source, ref, follow = false, repository = "", tag = "", login } = image;
    const { registry, nodes } = around;
    if (ref !== undefined) {
        const there = registry && (await architecturesOfRef(registry, ref, around));
        const common = there ? nodes.filter((each) => there.includes(each)) : nodes;
        if (nodes.length > 0 && common.length === 0)
            misfit("image.ref", ref, `is there for ${there?.join(" and ")} only`, around);
        return { args: { ref }, architecture: common.length < nodes.length ? common[0] : undefined };
    }
    const platform = build?.platform ?? `linux/${nodes[0] ?? "amd64"}`;
    const architecture = platform.replace("linux/", "");
    if (nodes.length > 0 && !nodes.includes(architecture))
        misfit("image.build.platform", platform, "is for other nodes", around);
    const push = { repository, tag, platform, login };
    const bound = nodes.length > 1 ? architecture : undefined;
    if (source === undefined)
        return { args: { build: { context: "app", ...build }, ...push }, architecture: bound };
    const upstream = await upstreamImage(source, follow, { ...around, nodes: [architecture] });
    return { args: { import: upstream, ...push }, architecture: bound };
}

function misfit(key: string, found: string, reason: string, { nodes, problems }: Surroundings): void {
    problems.push(
        `aks-acr:${key} is "${found}", which ${reason}, but the cluster's nodes are ${nodes.join(" and ")}; ` +
            "use an image for those, or add a node pool that fits",
    );
}

/** Undefined where the caller, who need not be able to pull, cannot know. */
async function architecturesOfRef(
    { loginServer, registryName }: ExistingRegistry,
    ref: string,
    { caller, problems }: Surroundings,
): Promise<string[] | undefined> {
    try {
        const { token } = await getClientToken({ endpoint: registryAudience });
        const registryToken = await exchangeForRegistryToken(loginServer, caller, token, { waits: [] });
        const found = await architecturesOfImage(loginServer, ref, registryToken);
        if (found) return found;
    } catch (error) {
        await pulumi.log.warn(`aks-acr:image.ref was not checked: ${(error as Error).message}`);
        return undefined;
    }
    problems.push(
        `aks-acr:image.ref is "${ref}", which the registry ${registryName} does not have; ` +
            `\`az acr manifest list-metadata --registry ${registryName} --name ${ref.split("@")[0]}\` shows what it has`,
    );
    return undefined;
}

/**
 * The image to import; with `follow` by the digest that its tag has now. Asks upstream no more than it must, because pulls are
 * counted there.
 */
async function upstreamImage(name: string, follow: boolean, around: Surroundings): Promise<string> {
    const gone = `aks-acr:image.import is "${name}", which its registry does not have; name a tag or digest that is there`;
    const ask = async <T>(question: () => Promise<T>, otherwise: (reason: string) => void) => {
        try {
            return await question();
        } catch (error) {
            const { message } = error as Error;
            if (/404|not found|manifest unknown/i.test(message)) around.problems.push(gone);
            else otherwise(message);
            return undefined;
        }
    };
    if (!follow) {
        if (pulumi.runtime.isDryRun()) await checkArchitectures();
        return name;
    }
    const digest = await ask(
        () => getRegistryImage({ name }),
        (reason) => around.problems.push(`aks-acr:image.follow: ${reason}`),
    );
    if (digest && pulumi.runtime.isDryRun()) await checkArchitectures();
    return digest ? `${name.replace(/(:[^:/@]+)?(@.*)?$/, "")}@${digest.sha256Digest}` : name;

    async function checkArchitectures(): Promise<void> {
        const found = await ask(
            () => getRegistryImageManifests({ name }),
            (reason) => {
                // An image of a single platform has no list of them.
                if (!reason.includes("unsupported manifest"))
                    pulumi.log.warn(`aks-acr:image.import was not checked: ${reason}`);
            },
        );
        const there = found?.manifests.map(({ architecture }) => architecture) ?? around.nodes;
        if (!around.nodes.some((each) => there.includes(each)))
            misfit("image.import", name, `is there for ${there.join(" and ")} only`, around);
    }
}
