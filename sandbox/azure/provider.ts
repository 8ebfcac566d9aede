import { randomBytes } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { hasUnknown, type Provider, unknown } from "../provider";
import { changedPaths } from "../providers/difference";
import { AzureError } from "./errors";
import { type Azure, guid, type Properties, type Shown, typeOf } from "./model";

/** Where the provider gets tokens for the signed-in caller. */
export interface Tokens {
    /** A Microsoft Entra access token for the audience, e.g. `https://containerregistry.azure.net`. */
    forCaller(audience: string): string | Promise<string>;
}

/** What azure-native's provider answers; its configuration moves no resource. */
export type AzureNativeProvider = Required<Omit<Provider, "diffConfig">>;

/** How azure-native treats a resource type. */
interface Mapping {
    /** Resource id; the last variable is the name, and a change of any other than the subscription replaces. */
    path: string;
    apiVersion: string;
    /** Whether a name that is made where none is given is a GUID. Default: the logical name with 8 random digits. */
    guidName?: boolean;
    /** Further inputs whose change needs a new resource; of resources with a location, that as well. */
    replaceOn?: string[];
    /** Outputs that are not inputs, beside those that all have. */
    readOnly?: string[];
}

const group = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}";
const cluster = `${group}/providers/Microsoft.ContainerService/managedClusters/{resourceName}`;
const managedCluster = "azure-native:containerservice:ManagedCluster";
const words = (text: string) => text.split(" ");

/** Versions, names and outputs from the typings of azure-native 3.28, replacements from its sources. */
const mappings: Record<string, Mapping> = {
    "azure-native:resources:ResourceGroup": {
        path: group,
        apiVersion: "2024-11-01",
        readOnly: ["properties"],
    },
    "azure-native:managedidentity:UserAssignedIdentity": {
        path: `${group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{resourceName}`,
        apiVersion: "2023-01-31",
        readOnly: words("clientId principalId tenantId"),
    },
    "azure-native:authorization:RoleAssignment": {
        path: "{scope}/providers/Microsoft.Authorization/roleAssignments/{roleAssignmentName}",
        apiVersion: "2022-04-01",
        guidName: true,
        replaceOn: ["principalId"],
    },
    "azure-native:containerregistry:Registry": {
        path: `${group}/providers/Microsoft.ContainerRegistry/registries/{registryName}`,
        apiVersion: "2023-01-01-preview",
        readOnly: words("creationDate loginServer"),
    },
    [managedCluster]: {
        path: cluster,
        apiVersion: "2025-09-01",
        // And some that the program has no settings for.
        replaceOn: [
            "dnsPrefix",
            ...words(
                "dnsServiceIP networkDataplane networkPlugin networkPluginMode networkPolicy podCidr serviceCidr",
            ).map((each) => `networkProfile.${each}`),
        ],
        readOnly: words("currentKubernetesVersion fqdn powerState"),
    },
    "azure-native:containerservice:AgentPool": {
        path: `${cluster}/agentPools/{agentPoolName}`,
        apiVersion: "2025-09-01",
        replaceOn: ["vmSize"],
        readOnly: words("currentOrchestratorVersion powerState"),
    },
};

const readOnlyOf = ({ readOnly = [] }: Mapping) =>
    words("name type provisioningState azureApiVersion").concat(readOnly);
const readOnlyInside = words("currentOrchestratorVersion issuerURL provisioningState");
/** azure-native's mark of an automatic name, which lets a replacement come before the deletion. */
const createBeforeDelete = "__createBeforeDelete";
/** The Azure CLI's application, through which a person who ran `az login` calls. */
const azureCli = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";

/** Stands in for azure-native 3.28.0: its names, defaults, replacements and messages, over a model of Azure. */
export function azureNativeProvider(azure: Azure, tokens: Tokens): () => AzureNativeProvider {
    return () => {
        let config: Properties = {};
        const idOf = ({ path }: { path: string }, inputs: Properties) => {
            const values = { subscriptionId: config.subscriptionId ?? azure.subscriptionId, ...inputs };
            return path.replace(/\{(\w+)\}/g, (_, key) => values[key as keyof typeof values]);
        };
        /** From a resource's own inputs, else the configuration, else the resource group. */
        const defaultLocation = (olds: Properties, news: Properties): string | undefined => {
            const known = olds.location ?? config.location;
            if (known || !news.resourceGroupName) return known;
            if (hasUnknown(news.resourceGroupName)) return unknown;
            return azure.resource(idOf({ path: group }, news))?.body.location;
        };
        return {
            version: "3.28.0",
            configure(given) {
                config = given;
            },
            check({ type, name }, olds, news, seed) {
                azure.checkSignedIn();
                const mapping = mappingOf(type);
                const { parents, nameKey } = variables(mapping);
                const inputs: Properties = { ...news, azureApiVersion: mapping.apiVersion };
                if (inputs[nameKey] === undefined) {
                    inputs[nameKey] = olds[nameKey] ?? automaticName(mapping, name, seed);
                    if (!olds[nameKey] || olds[createBeforeDelete]) inputs[createBeforeDelete] = true;
                }
                const { located = true, name: rule } = typeOf(mapping.path);
                const location = located ? (news.location ?? defaultLocation(olds, news)) : undefined;
                if (location !== undefined) inputs.location = location;
                const missing = [...parents, ...(located ? ["location"] : [])].filter(
                    (key) => inputs[key] === undefined,
                );
                const hint =
                    ". Either set it explicitly or configure it with 'pulumi config set azure-native:location <value>'.";
                const reasons = missing.map(
                    (key) => `missing required property '${key}'${key === "location" ? hint : ""}`,
                );
                if (!hasUnknown(inputs[nameKey]) && !rule.test(inputs[nameKey]))
                    reasons.push(`'${nameKey}' does not match expression '${rule.source}'`);
                return { inputs, failures: reasons.map((reason) => ({ property: "", reason })) };
            },
            diff({ type }, _id, { inputs }, news) {
                const mapping = mappingOf(type);
                const { parents, nameKey } = variables(mapping);
                const forcing = [...parents, nameKey, "location", ...(mapping.replaceOn ?? [])];
                // Azure writes "West Europe" and westeurope for the same place.
                const place = ({ location }: Properties) => String(location).replace(/ /g, "").toLowerCase();
                const changed = changedPaths(inputs, news).filter(
                    (path) => path !== "location" || place(inputs) !== place(news),
                );
                const replaces = changed.filter((path) =>
                    forcing.some((each) => `${path}.`.replace(/\[/g, ".").startsWith(`${each}.`)),
                );
                const deleteBeforeReplace = replaces.length > 0 && !inputs[createBeforeDelete];
                return { changed, replaces, deleteBeforeReplace };
            },
            async create({ type }, inputs, preview) {
                const mapping = mappingOf(type);
                if (preview) return { id: "", outputs: previewOf(mapping, inputs) };
                const id = idOf(mapping, inputs);
                if (exists(azure, id)) throw new Error(`cannot create already existing resource '${id}'`);
                const created = await ask(() => azure.put(id, bodyOf(mapping, inputs)));
                return { id: created.id, outputs: outputsOf(mapping, created) };
            },
            async read({ type }, id, state) {
                const mapping = mappingOf(type);
                const shown = await ask(() => azure.get(id)).catch(unlessGone);
                if (!shown) return undefined;
                const outputs = outputsOf(mapping, shown);
                const writable = writableOf(mapping, outputs);
                const importing = Object.keys(state.inputs).length === 0;
                const inputs = importing
                    ? { ...pathInputs(mapping, id), ...writable, azureApiVersion: mapping.apiVersion }
                    : drifted(state.inputs, writableOf(mapping, state.outputs), writable);
                return { id, inputs: inputs as Properties, outputs };
            },
            async update({ type }, id, olds, news, preview) {
                const mapping = mappingOf(type);
                const { name, location } = olds.outputs;
                if (preview) return { ...previewOf(mapping, news), name, ...(location && { location }) };
                return outputsOf(mapping, await ask(() => azure.put(id, bodyOf(mapping, news))));
            },
            async delete(_resource, id) {
                await ask(() => azure.delete(id)).catch(unlessGone);
            },
            async invoke(token, args) {
                azure.checkSignedIn();
                if (token === "azure-native:authorization:getClientConfig") {
                    const { objectId, clientId = azureCli } = azure.caller;
                    const { subscriptionId = azure.subscriptionId } = config;
                    return { clientId, objectId, subscriptionId, tenantId: azure.tenantId };
                }
                if (token === "azure-native:authorization:getClientToken")
                    return {
                        token: await tokens.forCaller(args.endpoint ?? "https://management.azure.com/"),
                    };
                const credentials =
                    token === "azure-native:containerservice:listManagedClusterUserCredentials";
                const type = credentials ? managedCluster : token.replace(/:get(\w+)$/, ":$1");
                const mapping = mappings[type];
                if (!mapping || type === token) throw new Error(`Invoke type ${token} not found`);
                const id = idOf(mapping, args);
                const context = `request failed ${id}: `;
                if (credentials)
                    return { kubeconfigs: await ask(() => azure.clusterUserCredentials(id), context) };
                const shown = await ask(() => azure.get(id), context);
                return { ...outputsOf(mapping, shown), id: shown.id };
            },
        };
    };
}

function mappingOf(type: string): Mapping {
    const mapping = mappings[type];
    if (!mapping) throw new Error(`Resource type ${type} not found`);
    return mapping;
}

/** The inputs that are part of an id: those above it and its own name. */
function variables({ path }: Mapping): { parents: string[]; nameKey: string } {
    const keys = [...path.matchAll(/\{(\w+)\}/g)]
        .map(([, key = ""]) => key)
        .filter((key) => key !== "subscriptionId");
    return { parents: keys.slice(0, -1), nameKey: keys.at(-1) ?? "" };
}

function bodyOf(mapping: Mapping, inputs: Properties): Properties {
    const { parents, nameKey } = variables(mapping);
    return without(inputs, [...parents, nameKey, "azureApiVersion", createBeforeDelete]);
}

function outputsOf({ apiVersion }: Mapping, { id: _, ...shown }: Shown): Properties {
    return { ...shown, azureApiVersion: apiVersion };
}

/** What is known before an update: the inputs. */
function previewOf(mapping: Mapping, inputs: Properties): Properties {
    const computed = readOnlyOf(mapping).map((key) => [key, unknown]);
    const known = { ...bodyOf(mapping, inputs), azureApiVersion: mapping.apiVersion };
    return { ...Object.fromEntries(computed), ...known };
}

/** The outputs that could be inputs, as those would be written. */
function writableOf(mapping: Mapping, outputs: Properties): Properties {
    const shaped = JSON.stringify(without(outputs, readOnlyOf(mapping)), (key, value) => {
        if (readOnlyInside.includes(key)) return undefined;
        // ARM shows an object with the ids as keys, azure-native takes a list.
        return key === "userAssignedIdentities" && isObject(value) ? Object.keys(value) : value;
    });
    return JSON.parse(shaped);
}

/** The inputs that an id holds, for an import. */
function pathInputs(mapping: Mapping, id: string): Properties {
    const pattern = mapping.path.replace(
        /\{(\w+)\}/g,
        (_, key) => `(?<${key}>${key === "scope" ? ".+" : "[^/]+"})`,
    );
    return without(new RegExp(`^${pattern}$`, "i").exec(id)?.groups ?? {}, ["subscriptionId"]);
}

/** Asks Azure; an error is printed as azure-native does: of an answer without `error` around it, the whole text. */
async function ask<T>(request: () => T | Promise<T>, context = ""): Promise<T> {
    try {
        return await request();
    } catch (error) {
        if (!(error instanceof AzureError)) throw error;
        const { status, code, message, body } = error;
        const said = body.startsWith('{"error"') ? message : body;
        throw new Error(`${context}Status=${status} Code="${code}" Message="${said}"`, { cause: error });
    }
}

function unlessGone(error: Error): undefined {
    if (!(error.cause instanceof AzureError && error.cause.status === 404)) throw error;
}

function exists(azure: Azure, id: string): boolean {
    try {
        azure.get(id);
        return true;
    } catch (error) {
        if (!(error instanceof AzureError)) throw error;
        const { status, body } = error;
        if (status === 404) return false;
        throw new Error(`cannot check existence of resource '${id}': status code ${status}, ${body}`);
    }
}

function automaticName({ guidName }: Mapping, name: string, seed: Uint8Array): string {
    const random = Buffer.from(seed.length > 0 ? seed : randomBytes(16)).toString("hex");
    const made = guid(random, name);
    return guidName ? made : name + made.slice(0, 8);
}

/** Inputs with what has changed in Azure between two looks at it; what the service filled in both times stays out. */
function drifted(inputs: unknown, before: unknown, now: unknown): unknown {
    if (isList(inputs) && isList(before) && isList(now)) {
        const known = Math.min(inputs.length, before.length);
        return now.map((each, index) => (index < known ? drifted(inputs[index], before[index], each) : each));
    }
    if (!isObject(inputs) || !isObject(before) || !isObject(now)) return now;
    const kept = Object.entries(inputs).filter(([key]) => !(key in before) || key in now);
    const changed = Object.keys(now).filter((key) => !isDeepStrictEqual(before[key], now[key]));
    const updated = changed.map((key) => [key, drifted(inputs[key], before[key], now[key])]);
    return Object.fromEntries([...kept, ...updated]);
}

function without(properties: Properties, keys: string[]): Properties {
    return Object.fromEntries(Object.entries(properties).filter(([key]) => !keys.includes(key)));
}

const isList = (value: unknown): value is unknown[] => Array.isArray(value);

function isObject(value: unknown): value is Properties {
    return typeof value === "object" && value !== null && !isList(value);
}
