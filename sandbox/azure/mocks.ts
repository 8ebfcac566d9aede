import { createHash } from "node:crypto";
import type * as pulumi from "@pulumi/pulumi";
import { dump } from "js-yaml";
import { plain } from "../provider";
import type { Infrastructure } from "./infrastructure";
import { Azure, type Properties } from "./model";
import { type AzureNativeProvider, azureNativeProvider } from "./provider";

/** A resource that a program under test registered. */
export interface Registered {
    type: string;
    name: string;
    inputs: Properties;
    id: string;
}

/** Nothing real behind the model: fixed answers. */
export const noInfrastructure: Infrastructure = {
    startRegistry: async ({ name }) => ({ loginServer: `${name.toLowerCase()}.azurecr.io` }),
    stopRegistry: async () => undefined,
    startCluster: async ({ name }) => {
        const fqdn = `${name}.hcp.westeurope.azmk8s.io`;
        const kubeconfig = {
            ...{ apiVersion: "v1", kind: "Config", "current-context": name },
            clusters: [{ name, cluster: { server: `https://${fqdn}:443` } }],
            contexts: [{ name, context: { cluster: name, user: "clusterUser" } }],
            users: [{ name: "clusterUser", user: { token: "a token" } }],
        };
        return { kubeconfig: dump(kubeconfig), fqdn };
    },
    stopCluster: async () => undefined,
};

/** An image in a registry that is not Azure's. */
export interface UpstreamImage {
    /** `sha256:` and 64 hexadecimal digits. */
    digest: string;
    /** Processor architectures there are of it, e.g. `amd64`. */
    architectures: string[];
}

/** What the mocks start from. */
export interface AzureMocksOptions {
    /** With what there is already, and who is signed in. Default: a fresh one. */
    azure?: Azure;
    /** By name, such as `nginx:1.29`. Default: none. */
    upstream?: Record<string, UpstreamImage>;
}

/**
 * Unit-test mocks over the model of Azure: what Azure or azure-native refuses fails the test with the same text.
 * Other providers' resources answer with their inputs and what the program reads of them.
 */
export class AzureMocks implements pulumi.runtime.Mocks {
    /** What the program registered, in the order of completion; components too. */
    readonly resources: Registered[] = [];
    readonly azure: Azure;
    /** azure-native's explicit providers by id, and by no id the default one, of `azure-native:location` westeurope. */
    private readonly providers = new Map<string, AzureNativeProvider>();
    private readonly upstream: Record<string, UpstreamImage>;

    constructor({ azure, upstream = {} }: AzureMocksOptions = {}) {
        this.azure = azure ?? new Azure({ infrastructure: noInfrastructure });
        this.configure("", { location: "westeurope" });
        this.upstream = upstream;
    }

    /** The registered resources of a type, and of a name where one is given. */
    of(type: string, name?: string): Registered[] {
        return this.resources.filter(
            (each) => each.type === type && (name === undefined || each.name === name),
        );
    }

    async newResource({ type, name, inputs, id, custom, provider }: pulumi.runtime.MockResourceArgs) {
        const given = plain(inputs) as Properties;
        const made = await this.make(type, name, given, id, provider);
        this.resources.push({ type, name, inputs: given, id: made.id });
        return { id: custom === false ? undefined : made.id, state: made.state };
    }

    async call({ token, inputs, provider }: pulumi.runtime.MockCallArgs) {
        const args = plain(inputs) as Properties;
        if (token === "docker:index/getRegistryImage:getRegistryImage") {
            const { digest } = this.upstreamImage(args);
            return { ...args, id: digest, sha256Digest: digest };
        }
        if (token === "docker:index/getRegistryImageManifests:getRegistryImageManifests") {
            const { digest, architectures } = this.upstreamImage(args);
            return { ...args, id: digest, manifests: architectures.map((each) => manifest(digest, each)) };
        }
        return this.providerOf(provider).invoke(token, args);
    }

    private configure(id: string, config: Properties): void {
        const tokens = { forCaller: (audience: string) => `token for ${audience}` };
        const provider = azureNativeProvider(this.azure, tokens)();
        provider.configure(config);
        this.providers.set(id, provider);
    }

    /** @param reference URN and id of an explicit provider, as the engine has it; empty for the default one. */
    private providerOf(reference = ""): AzureNativeProvider {
        const provider = this.providers.get(reference.split("::").at(-1) ?? "");
        return provider ?? (this.providers.get("") as AzureNativeProvider);
    }

    private upstreamImage({ name }: Properties): UpstreamImage {
        const image = this.upstream[name];
        if (!image) throw new Error("Got bad response from registry: 404 Not Found");
        return image;
    }

    private async make(type: string, name: string, inputs: Properties, id = "", reference = "") {
        const made = { id: id || `${name}-id`, state: inputs };
        if (type === "pulumi:providers:azure-native") this.configure(made.id, inputs);
        if (type === "random:index/randomString:RandomString") {
            const result = "abcdefghij".repeat(26).slice(0, inputs.length);
            return { id: result, state: { ...inputs, result } };
        }
        if (type === "docker:index/image:Image") return { ...made, state: { ...inputs, ...pushed(inputs) } };
        if (!type.startsWith("azure-native:")) return made;
        const resource = { type, name, urn: name };
        const provider = this.providerOf(reference);
        if (id) {
            const read = await provider.read(resource, id, { inputs: {}, outputs: {} });
            if (!read) throw new Error(`resource '${id}' does not exist`);
            return { id, state: read.outputs };
        }
        const checked = await provider.check(resource, {}, inputs, Buffer.from(name));
        const reasons = checked.failures?.map(({ reason }) => reason) ?? [];
        if (reasons.length > 0)
            throw new Error(`${type} resource '${name}' has a problem: ${reasons.join("; ")}`);
        const created = await provider.create(resource, checked.inputs, false);
        return { id: created.id, state: created.outputs };
    }
}

/** What docker reports of an image for one architecture. */
function manifest(digest: string, architecture: string) {
    const own = createHash("sha256").update(digest).update(architecture).digest("hex");
    const mediaType = "application/vnd.oci.image.manifest.v1+json";
    return { architecture, os: "linux", mediaType, sha256Digest: `sha256:${own}` };
}

/** What docker reports of an image after a push. */
function pushed({ imageName, registry }: Properties) {
    const repository = String(imageName)
        .replace(/:[^:/]*$/, "")
        .split("/")
        .slice(1)
        .join("/");
    const digest = createHash("sha256").update(String(imageName)).digest("hex");
    return { repoDigest: `${registry?.server}/${repository}@sha256:${digest}` };
}
