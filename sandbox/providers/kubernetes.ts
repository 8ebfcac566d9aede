import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { connect, type KubernetesClient, KubernetesError, type KubernetesObject } from "../kubernetes/client";
import {
    hasUnknown,
    NotReady,
    type Properties,
    type Provider,
    type Report,
    type Resource,
} from "../provider";
import { deploymentReadiness, type Readiness, serviceReadiness } from "./readiness";

const version = "4.34.2";
/** Who owns the fields that are applied; a conflict with anybody else stops the update. */
const fieldManager = "pulumi-kubernetes";
/** The vendor's defaults, in milliseconds ("customTimeouts"). */
const readyWithin = 10 * 60_000;
const pollEvery = 300;

/** Properties whose change needs a new object, by kind; for all kinds also its identity. */
const immutable: Record<string, string[]> = {
    Deployment: ["spec.selector"],
    Service: ["spec.clusterIP", "spec.type"],
};
const identity = ["apiVersion", "kind", "metadata.name", "metadata.namespace"];

/**
 * Stands in for the vendor's kubernetes provider 4.34 for objects of any kind: server-side apply, waiting until a
 * Deployment has rolled out and a Service has endpoints, drift by reading.
 */
export function kubernetesProvider(report: Report): Provider {
    let client: KubernetesClient | undefined;
    const discovered = new Map<string, Promise<KubernetesObject[]>>();

    function cluster(): KubernetesClient {
        if (client) return client;
        throw new Error(
            "The Kubernetes provider has no kubeconfig; give it one, or create the cluster first.",
        );
    }

    /** Path of an object, or of all of its kind where it has no name. */
    async function pathOf({ apiVersion, kind, metadata = {} }: Properties): Promise<string> {
        const base = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
        const known =
            discovered.get(base) ??
            cluster()
                .call("GET", base)
                .then(({ resources }) => resources);
        discovered.set(base, known);
        const type = (await known).find(
            (each: KubernetesObject) => each.kind === kind && !each.name.includes("/"),
        );
        if (!type) throw new Error(`The cluster knows no ${kind} in ${apiVersion}; check the API version.`);
        const namespace = type.namespaced ? `/namespaces/${metadata.namespace ?? "default"}` : "";
        return `${base}${namespace}/${type.name}/${metadata.name}`;
    }

    async function apply(inputs: Properties, dryRun: boolean): Promise<KubernetesObject> {
        const force = inputs.metadata?.annotations?.["pulumi.com/patchForce"] === "true" ? "true" : "false";
        const query = { fieldManager, force, ...(dryRun && { dryRun: "All" }) };
        const options = { query, body: inputs, contentType: "application/apply-patch+yaml" };
        return await cluster()
            .call("PATCH", await pathOf(inputs), options)
            .catch((error) => {
                if (!(error instanceof KubernetesError) || error.reason !== "Conflict") throw error;
                throw new Error(
                    `${error.message}. Remove these fields from the program, or take them over with the annotation pulumi.com/patchForce: "true".`,
                );
            });
    }

    /** Applies and waits until the object is ready; in a preview only asks whether it could be. */
    async function bring({ urn }: Resource, inputs: Properties, preview: boolean): Promise<Properties> {
        if (preview) {
            // What the object needs, such as its namespace, may come with the same update.
            const missing = (error: Error) => !(error instanceof KubernetesError && error.status === 404);
            if (client && !hasUnknown(inputs)) {
                await apply(inputs, true).catch((error) => {
                    if (missing(error)) throw error;
                });
            }
            return inputs;
        }
        const applied = await apply(inputs, false);
        return outputsOf(await ready(urn, applied));
    }

    async function ready(urn: string, applied: KubernetesObject): Promise<KubernetesObject> {
        if (applied.metadata.annotations?.["pulumi.com/skipAwait"] === "true") return applied;
        const path = await pathOf(applied);
        const until = Date.now() + readyWithin;
        const warned = new Set<string>();
        let said = "";
        for (;;) {
            const object = await cluster().call("GET", path);
            const state = await readiness(object);
            if (state.ready) return object;
            if (state.message !== said) report(state.message, { urn, passing: true });
            said = state.message;
            for (const problem of state.problems.filter((each) => !warned.has(each))) {
                report(problem, { urn, warning: true });
                warned.add(problem);
            }
            if (Date.now() > until) {
                const name = `${object.metadata.namespace}/${object.metadata.name}`;
                const message = `the ${object.kind} ${name} was not ready within ${readyWithin / 60_000} minutes: ${state.message}`;
                throw new NotReady(message, name, outputsOf(object), [state.message, ...state.problems]);
            }
            await sleep(pollEvery);
        }
    }

    async function readiness(object: KubernetesObject): Promise<Readiness> {
        const { namespace, name } = object.metadata;
        if (object.kind === "Deployment") {
            const labels = Object.entries(object.spec.selector?.matchLabels ?? {}).map(
                ([key, value]) => `${key}=${value}`,
            );
            const query = { labelSelector: labels.join(",") };
            const { items } = await cluster().call("GET", `/api/v1/namespaces/${namespace}/pods`, { query });
            return deploymentReadiness(object, items);
        }
        if (object.kind !== "Service") return { ready: true, message: "", problems: [] };
        const query = { labelSelector: `kubernetes.io/service-name=${name}` };
        const slices = `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`;
        return serviceReadiness(object, (await cluster().call("GET", slices, { query })).items);
    }

    return {
        version,
        configure({ kubeconfig }) {
            if (kubeconfig && !hasUnknown(kubeconfig)) client = connect(kubeconfig);
        },
        diffConfig(olds, news) {
            const changed = ["clusterIdentifier", "kubeconfig"].filter(
                (key) => hasUnknown(news[key]) || olds[key] !== news[key],
            );
            // The identifier says whether it is another cluster; without one, another kubeconfig is.
            const decisive = news.clusterIdentifier === undefined ? "kubeconfig" : "clusterIdentifier";
            return { changed, replaces: changed.filter((key) => key === decisive) };
        },
        check({ name }, olds, news, randomSeed) {
            if (news.metadata?.name !== undefined) return { inputs: news };
            const suffix = Buffer.from(randomSeed).toString("hex").slice(0, 8);
            const annotations = { ...news.metadata?.annotations, "pulumi.com/autonamed": "true" };
            const metadata = {
                ...news.metadata,
                annotations,
                name: olds.metadata?.name ?? `${name}-${suffix}`,
            };
            return { inputs: { ...news, metadata } };
        },
        diff(_resource, _id, olds, news) {
            const changed = changedPaths(olds.inputs, news);
            const fixed = [...identity, ...(immutable[news.kind] ?? [])];
            const replaces = changed.filter((path) =>
                fixed.some((each) => path === each || path.startsWith(`${each}.`)),
            );
            const autonamed = news.metadata?.annotations?.["pulumi.com/autonamed"] === "true";
            return { changed, replaces, deleteBeforeReplace: replaces.length > 0 && !autonamed };
        },
        async create(resource, inputs, preview) {
            const outputs = await bring(resource, inputs, preview);
            return { id: preview ? "" : idOf(outputs), outputs };
        },
        async read(_resource, id, state) {
            const [name, namespace] = id.split("/").reverse();
            const asked = state.inputs.kind ? state.inputs : state.outputs;
            const metadata = { ...asked.metadata, name, ...(namespace && { namespace }) };
            const object = await cluster()
                .call("GET", await pathOf({ ...asked, metadata }))
                .catch(unlessGone);
            if (!object) return undefined;
            const inputs =
                Object.keys(state.inputs).length > 0 ? project(object, state.inputs) : outputsOf(object);
            return { id, inputs: inputs as Properties, outputs: outputsOf(object) };
        },
        update: (resource, _id, _olds, news, preview) => bring(resource, news, preview),
        async delete({ urn }, _id, { outputs }) {
            const path = await pathOf(outputs);
            const query = { propagationPolicy: "Foreground" };
            await cluster().call("DELETE", path, { query }).catch(unlessGone);
            const until = Date.now() + readyWithin;
            while (await cluster().call("GET", path).catch(unlessGone)) {
                if (Date.now() > until)
                    throw new Error(`${path} is still there after 10 minutes; see what holds it.`);
                report("Waiting for the object to be gone", { urn, passing: true });
                await sleep(pollEvery);
            }
        },
    };
}

function unlessGone(error: Error): undefined {
    if (error instanceof KubernetesError && error.status === 404) return undefined;
    throw error;
}

function idOf({ metadata }: Properties): string {
    return metadata.namespace ? `${metadata.namespace}/${metadata.name}` : metadata.name;
}

/** The object without its bookkeeping of fields, which is long and of use to nobody. */
function outputsOf(object: KubernetesObject): Properties {
    const { managedFields, ...metadata } = object.metadata;
    return { ...object, metadata };
}

/** Paths at which two sets of inputs differ; what is not known yet counts as different. */
export function changedPaths(before: unknown, after: unknown, path = ""): string[] {
    if (isDeepStrictEqual(before, after) && !hasUnknown(after)) return [];
    const plain = (value: unknown): value is Properties => typeof value === "object" && value !== null;
    if (!plain(before) || !plain(after) || Array.isArray(before) !== Array.isArray(after)) return [path];
    const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])];
    const at = (key: string) => {
        if (Array.isArray(after)) return `${path}[${key}]`;
        const simple = /^[\w-]+$/.test(key) ? key : `["${key}"]`;
        return path && !simple.startsWith("[") ? `${path}.${simple}` : `${path}${simple}`;
    };
    return keys.flatMap((key) => changedPaths(before[key], after[key], at(key)));
}

/** What the live object says of the properties that the inputs set. */
export function project(live: unknown, inputs: unknown): unknown {
    if (Array.isArray(inputs) && Array.isArray(live))
        return live.map((each, index) => project(each, inputs[index] ?? each));
    if (typeof inputs !== "object" || inputs === null || typeof live !== "object" || live === null)
        return live;
    const entries = Object.keys(inputs).map((key) => [
        key,
        project((live as Properties)[key], (inputs as Properties)[key]),
    ]);
    return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}
