import { createHash } from "node:crypto";
import type * as pulumi from "@pulumi/pulumi";
import { dump } from "js-yaml";
import type { Provider } from "../provider";
import type { Infrastructure } from "./infrastructure";
import { Azure, type Properties } from "./model";
import { azureNativeProvider } from "./provider";

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
    /** The configured `azure-native:location`. Default: westeurope. */
    location?: string;
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
    /** azure-native's explicit providers, by id. */
    private readonly providers = new Map<string, Provider>();
    private readonly defaultProvider: Provider;
    private readonly upstream: Record<string, UpstreamImage>;

    constructor({ azure, location = "westeurope", upstream = {} }: AzureMocksOptions = {}) {
        this.azure = azure ?? new Azure({ infrastructure: noInfrastructure });
        this.defaultProvider = this.configured({ location });
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
        const { invoke } = this.providerOf(provider);
        if (!invoke) throw new Error(`no function ${token}`);
        return invoke(token, args);
    }

    private configured(config: Properties): Provider {
        const tokens = { forCaller: (audience: string) => `token for ${audience}` };
        const provider = azureNativeProvider(this.azure, tokens)(() => undefined);
        provider.configure?.(config);
        return provider;
    }

    /** @param reference URN and id of an explicit provider, as the engine has it; empty for the default one. */
    private providerOf(reference = ""): Provider {
        return this.providers.get(reference.split("::").at(-1) ?? "") ?? this.defaultProvider;
    }

    private upstreamImage({ name }: Properties): UpstreamImage {
        const image = this.upstream[name];
        if (!image) throw new Error("Got bad response from registry: 404 Not Found");
        return image;
    }

    private async make(type: string, name: string, inputs: Properties, id = "", reference = "") {
        const made = { id: id || `${name}-id`, state: inputs };
        if (type === "pulumi:providers:azure-native") this.providers.set(made.id, this.configured(inputs));
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
        const checked = await provider.check?.(resource, {}, inputs, Buffer.from(name));
        const reasons = checked?.failures?.map(({ reason }) => reason) ?? [];
        if (reasons.length > 0)
            throw new Error(`${type} resource '${name}' has a problem: ${reasons.join("; ")}`);
        const created = await provider.create(resource, checked?.inputs ?? inputs, false);
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

/** Mocks get a secret as an object with the SDK's mark; anywhere inside, it wraps the whole value. */
function plain(value: unknown): unknown {
    if (Array.isArray(value)) return value.map(plain);
    if (typeof value !== "object" || value === null) return value;
    if ("4dabf18193072939515e22adb298388d" in value && "value" in value) return plain(value.value);
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
}
