import { createHash } from "node:crypto";
import type * as pulumi from "@pulumi/pulumi";
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
    startCluster: async ({ name }) => ({
        kubeconfig: `apiVersion: v1\nkind: Config\ncurrent-context: ${name}\n`,
        fqdn: `${name}.hcp.westeurope.azmk8s.io`,
    }),
    stopCluster: async () => undefined,
};

/**
 * Unit-test mocks over the model of Azure: what Azure or azure-native refuses fails the test with the same text.
 * Other providers' resources answer with their inputs and what the program reads of them.
 */
export class AzureMocks implements pulumi.runtime.Mocks {
    /** What the program registered, in the order of completion; components too. */
    readonly resources: Registered[] = [];
    readonly azure: Azure;
    private readonly provider;

    /** @param options.location the configured `azure-native:location`. */
    constructor({ azure, location = "westeurope" }: { azure?: Azure; location?: string } = {}) {
        this.azure = azure ?? new Azure({ infrastructure: noInfrastructure });
        const tokens = { forCaller: (audience: string) => `token for ${audience}` };
        this.provider = azureNativeProvider(this.azure, tokens)(() => undefined);
        this.provider.configure?.({ location });
    }

    /** The registered resources of a type, and of a name where one is given. */
    of(type: string, name?: string): Registered[] {
        return this.resources.filter(
            (each) => each.type === type && (name === undefined || each.name === name),
        );
    }

    async newResource({ type, name, inputs, id, custom }: pulumi.runtime.MockResourceArgs) {
        const given = plain(inputs) as Properties;
        const made = await this.make(type, name, given, id);
        this.resources.push({ type, name, inputs: given, id: made.id });
        return { id: custom === false ? undefined : made.id, state: made.state };
    }

    async call({ token, inputs }: pulumi.runtime.MockCallArgs) {
        if (!this.provider.invoke) throw new Error(`no function ${token}`);
        return this.provider.invoke(token, plain(inputs) as Properties);
    }

    private async make(type: string, name: string, inputs: Properties, id = "") {
        const made = { id: id || `${name}-id`, state: inputs };
        if (type === "random:index/randomString:RandomString") {
            const result = "abcdefghij".repeat(26).slice(0, inputs.length);
            return { id: result, state: { ...inputs, result } };
        }
        if (type === "docker:index/image:Image") return { ...made, state: { ...inputs, ...pushed(inputs) } };
        if (!type.startsWith("azure-native:")) return made;
        const resource = { type, name, urn: name };
        if (id) {
            const read = await this.provider.read(resource, id, { inputs: {}, outputs: {} });
            if (!read) throw new Error(`resource '${id}' does not exist`);
            return { id, state: read.outputs };
        }
        const checked = await this.provider.check?.(resource, {}, inputs, Buffer.from(name));
        const reasons = checked?.failures?.map(({ reason }) => reason) ?? [];
        if (reasons.length > 0)
            throw new Error(`${type} resource '${name}' has a problem: ${reasons.join("; ")}`);
        const created = await this.provider.create(resource, checked?.inputs ?? inputs, false);
        return { id: created.id, state: created.outputs };
    }
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
