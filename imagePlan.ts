import { getClientToken } from "@pulumi/azure-native/authorization/getClientToken.js";
import { getRegistryImage } from "@pulumi/docker/getRegistryImage.js";
import { getRegistryImageManifests } from "@pulumi/docker/getRegistryImageManifests.js";
import * as pulumi from "@pulumi/pulumi";
import type { ContainerImageArgs } from "./components/containerImage";
import type { ExistingRegistry } from "./components/existing";
import { architecturesOfImage, partsOf } from "./components/registryImage";
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

/** What is known of an image before the run. */
interface ImagePlan {
    /** What ContainerImage is told. */
    args: Distributed<ContainerImageArgs>;
    /** Architecture of the nodes that the image's pods are bound to, if they are. */
    architecture?: string | undefined;
    /** The stack that an image was promoted from, the image there, and its digest. */
    promoted?: { from: string; image: string; digest: string };
}

type Distributed<T> = T extends unknown ? Omit<T, "loginServer"> : never;

export async function imagePlan(image: Settings["image"], around: Surroundings): Promise<ImagePlan> {
    const { build, import: source, ref, promote, follow = false, repository = "", tag = "v1", login } = image;
    const { registry, nodes } = around;
    if (promote !== undefined) return await promotionPlan(promote, tag, around);
    if (ref !== undefined) {
        const architecture = registry && (await fitting("image.ref", ref, registry, ref, around));
        return { args: { ref }, architecture };
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

/** What another stack runs, by its digest: out of the registry that both use, or copied from the other's into this one's. */
async function promotionPlan(stack: string, tag: string, around: Surroundings) {
    const { registry, problems } = around;
    const key = "image.promote";
    const image = await imageOf(stack, (found) => problems.push(`aks-acr:${key} is "${stack}", ${found}`));
    if (!image) return { args: { ref: "" } };
    const { loginServer, repository, digest } = partsOf(image);
    const ref = `${repository}@${digest}`;
    const from = { loginServer, registryName: loginServer };
    const architecture = await fitting(key, stack, from, ref, around);
    const promoted = { from: stack, image, digest };
    const args = registry?.loginServer === loginServer ? { ref } : { copy: image, tag };
    return { args, architecture, promoted };
}

/**
 * The output `image` of another stack of this project. It is what StackReference reads, without that: it would keep all outputs
 * of that stack in this one's state, the kubeconfig too, and end the run where there is no such stack.
 */
async function imageOf(stack: string, refuse: (found: string) => void): Promise<string | undefined> {
    const name = `${pulumi.getOrganization()}/${pulumi.getProject()}/${stack}`;
    try {
        const { outputs } = await pulumi.runtime.invoke("pulumi:pulumi:readStackOutputs", { name });
        if (typeof outputs.image === "string") return outputs.image;
        refuse(`which runs no image yet; run \`pulumi up --stack ${stack}\` first`);
    } catch (error) {
        const { message } = error as Error;
        if (message.includes("unknown stack"))
            refuse("a stack that is not there; `pulumi stack ls` lists those that are");
        else refuse(`of which Pulumi says: ${message}`);
    }
    return undefined;
}

/**
 * Checks that a registry has an image for the cluster's nodes.
 *
 * @returns the architecture to keep to, where the image is not there for all of them.
 */
async function fitting(
    key: string,
    found: string,
    { loginServer, registryName }: Pick<ExistingRegistry, "loginServer" | "registryName">,
    ref: string,
    around: Surroundings,
): Promise<string | undefined> {
    const { caller, nodes, problems } = around;
    const [repository = "", digest = ""] = ref.split("@");
    try {
        const { token } = await getClientToken({ endpoint: registryAudience });
        const refreshToken = await exchangeForRegistryToken(loginServer, caller, token, { waits: [] });
        const there = await architecturesOfImage({ loginServer, repository, digest, refreshToken });
        if (!there) {
            problems.push(
                `aks-acr:${key} is "${found}", which the registry ${registryName} does not have${found === ref ? "" : ` (${ref})`}; ` +
                    `\`az acr manifest list-metadata --registry ${registryName} --name ${repository}\` shows what it has`,
            );
            return undefined;
        }
        const common = nodes.filter((each) => there.includes(each));
        if (nodes.length > 0 && common.length === 0)
            misfit(key, found, `is there for ${there.join(" and ")} only`, around);
        return common.length < nodes.length ? common[0] : undefined;
    } catch (error) {
        // Who deploys an image need not be able to pull it.
        await pulumi.log.warn(`aks-acr:${key} was not checked: ${(error as Error).message}`);
        return undefined;
    }
}

function misfit(key: string, found: string, reason: string, { nodes, problems }: Surroundings): void {
    problems.push(
        `aks-acr:${key} is "${found}", which ${reason}, but the cluster's nodes are ${nodes.join(" and ")}; ` +
            "use an image for those, or add a node pool that fits",
    );
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
