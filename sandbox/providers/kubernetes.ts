import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
    connect,
    type KubernetesClient,
    KubernetesError,
    type KubernetesObject,
    type RequestOptions,
    Unreachable,
} from "../kubernetes/client";
import {
    hasUnknown,
    NotReady,
    type Properties,
    type Provider,
    type Report,
    type Resource,
} from "../provider";
import { annotation, clusterDifference, importedInputs, objectDifference, refreshed } from "./difference";
import { deploymentReadiness, type Problem, type Readiness, serviceReadiness } from "./readiness";

/** Seconds to wait for an object to be ready or gone, without `customTimeouts`: the vendor's default. */
const defaultTimeout = 10 * 60;
const pollEvery = 300;
/** How long before a create is tried again whose namespace or kind is not there yet, in milliseconds. */
const createAgainAfter = [500, 1000, 2000, 4000];

/** What the vendor's plugin keeps beside the live object: who owns the fields that were applied. */
const fieldManagerKey = "__fieldManager";

/**
 * Stands in for the vendor's plugin of kubernetes 4.34.2 for objects of any kind: server-side apply, waiting until a
 * Deployment has rolled out and a Service has endpoints, drift by reading. No Helm, no Patch resources, no YAML files.
 */
export function kubernetesProvider(report: Report): Provider {
    let client: KubernetesClient | undefined;
    let down: Unreachable | undefined;
    let config: Properties = {};
    const discovered = new Map<string, Promise<KubernetesObject[]>>();

    /** Asks the API server; one that was out of reach for all the client's tries is not asked again in this run. */
    async function call(method: "GET" | "PATCH" | "DELETE", path: string, options?: RequestOptions) {
        if (!client)
            throw new Error("The Kubernetes provider has no kubeconfig; set the argument `kubeconfig`.");
        if (down) throw down;
        return await client.call(method, path, options).catch((error) => {
            if (error instanceof Unreachable) down = error;
            throw error;
        });
    }

    /** How the API server calls a kind; a KubernetesError of 404 where it knows none. */
    async function typeOf({ apiVersion, kind }: Properties) {
        const path = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
        const known =
            discovered.get(path) ?? call("GET", path).then(({ resources }): KubernetesObject[] => resources);
        discovered.set(path, known);
        try {
            const type = (await known).find((each) => each.kind === kind && !each.name.includes("/"));
            if (type) return { path, type };
            const message = `The cluster knows no ${kind} of ${apiVersion}. Check apiVersion, or create its CustomResourceDefinition first (dependsOn).`;
            throw new KubernetesError(404, "NotFound", message);
        } catch (error) {
            // It may come with the same update.
            discovered.delete(path);
            throw error;
        }
    }

    async function pathOf(object: Properties): Promise<string> {
        const { path, type } = await typeOf(object);
        const namespace = type.namespaced ? `/namespaces/${object.metadata.namespace ?? "default"}` : "";
        return `${path}${namespace}/${type.name}/${object.metadata.name}`;
    }

    async function apply(
        inputs: Properties,
        fieldManager: string,
        preview?: "create" | "update",
    ): Promise<KubernetesObject> {
        // What is to be replaced is still there at a preview, under another field manager.
        const forced = annotation("patchForce", inputs) ?? String(config.enablePatchForce);
        const force = String(preview === "create" || forced === "true");
        const query = { fieldManager, force, fieldValidation: "Warn", ...(preview && { dryRun: "All" }) };
        const { namespace: _, ...metadata } = inputs.metadata;
        const body = (await typeOf(inputs)).type.namespaced ? inputs : { ...inputs, metadata };
        const options = { query, body, contentType: "application/apply-patch+yaml" };
        return await call("PATCH", await pathOf(inputs), options).catch((error) => {
            if (!(error instanceof KubernetesError)) throw error;
            const advice =
                error.reason === "Conflict"
                    ? '\nSomebody else manages these fields: leave them out of the program, or take them over with the annotation pulumi.com/patchForce: "true".'
                    : "";
            const message = `${inputs.kind} ${idOf(inputs)} was refused by the API server: ${error.message}${advice}`;
            throw new KubernetesError(error.status, error.reason, message);
        });
    }

    /** The vendor's plugin takes over nothing that is there already, unless its `upsertExistingObjects` says so. */
    async function checkAbsent(inputs: Properties): Promise<void> {
        if (String(config.upsertExistingObjects) === "true") return;
        const { name } = (await typeOf(inputs)).type;
        const live = await call("GET", await pathOf(inputs)).catch((error) => {
            if (!isGone(error)) throw error;
        });
        if (!live) return;
        const message = `${inputs.kind} ${idOf(inputs)} was refused by the API server: ${name} "${inputs.metadata.name}" already exists\nThis stack has not made it: delete it, choose another name, or take it over with \`pulumi import\`.`;
        throw new KubernetesError(409, "AlreadyExists", message);
    }

    /** What would be after an update; the inputs where that cannot be told yet. */
    async function previewed(inputs: Properties, manager: string, kind: "create" | "update") {
        if (hasUnknown(inputs)) return inputs;
        try {
            const { status, ...object } = outputsOf(await apply(inputs, manager, kind), manager);
            return kind === "create" ? object : { ...object, status };
        } catch (error) {
            if (error instanceof Unreachable) return inputs;
            if (!(error instanceof KubernetesError)) throw error;
            // Forbidden, or in a namespace or of a kind that the same update creates.
            if ([403, 404].includes(error.status)) return inputs;
            if (kind === "create" && /field is immutable/.test(error.message)) return inputs;
            throw error;
        }
    }

    /** Waits until an applied object is ready, telling what is awaited and what is wrong. */
    async function ready(urn: string, applied: KubernetesObject, fieldManager: string, timeout = 0) {
        if (annotation("skipAwait", applied) === "true") return outputsOf(applied, fieldManager);
        const seconds = timeout || Number(annotation("timeoutSeconds", applied)) || defaultTimeout;
        const until = Date.now() + seconds * 1000;
        const path = await pathOf(applied);
        const said = new Set<string>();
        for (let object = applied; ; await sleep(pollEvery)) {
            let state: Readiness;
            try {
                object = await call("GET", path);
                state = await readiness(object);
            } catch (error) {
                if (error instanceof KubernetesError && error.status >= 429 && Date.now() < until) continue;
                // It is there all the same, and the state must know.
                throw notReady(object, fieldManager, [(error as Error).message]);
            }
            if (state.message && !said.has(state.message)) report(state.message, { urn, passing: true });
            said.add(state.message);
            if (state.ready) return outputsOf(object, fieldManager);
            for (const problem of state.problems) {
                // An image that cannot be pulled changes between two reasons.
                const key = problem.subject + problem.reason.replace("ImagePullBackOff", "ErrImagePull");
                if (!said.has(key)) report(textOf(problem), { urn, warning: true });
                said.add(key);
            }
            if (Date.now() > until)
                throw notReady(object, fieldManager, [
                    `Timed out after ${seconds} s: ${state.message}`,
                    ...state.problems.map(textOf),
                ]);
        }
    }

    async function readiness(object: KubernetesObject): Promise<Readiness> {
        const { namespace, name } = object.metadata;
        const list = async (path: string, labelSelector: string): Promise<KubernetesObject[]> =>
            (await call("GET", path.replace("*", `namespaces/${namespace}`), { query: { labelSelector } }))
                .items;
        if (object.kind === "Deployment" && object.apiVersion === "apps/v1") {
            const labels = Object.entries(object.spec.selector.matchLabels ?? {});
            const selector = labels.map(([key, value]) => `${key}=${value}`).join(",");
            return deploymentReadiness(
                object,
                await list("/apis/apps/v1/*/replicasets", selector),
                await list("/api/v1/*/pods", selector),
            );
        }
        if (object.kind === "Service" && object.apiVersion === "v1") {
            const selector = `kubernetes.io/service-name=${name}`;
            return serviceReadiness(
                object,
                await list("/apis/discovery.k8s.io/v1/*/endpointslices", selector),
            );
        }
        return { ready: true, message: "", problems: [] };
    }

    return {
        version: "4.34.2",

        configure(given) {
            config = given;
            if (given.kubeconfig) client = connect(given.kubeconfig);
        },

        diffConfig: clusterDifference,

        async check({ type, name }, olds, news, randomSeed) {
            if (news.kind !== type.split(":")[2] || typeof news.metadata === "string")
                return unsupported(type, news);
            const metadata = { ...news.metadata };
            const inputs = { ...news, metadata };
            if (metadata.name === undefined) {
                const seed = randomSeed.length >= 4 ? Buffer.from(randomSeed) : randomBytes(4);
                const kept = annotation("autonamed", olds) && olds.metadata.name;
                metadata.name = kept || `${name}-${seed.toString("hex", 0, 4)}`;
                if (!hasUnknown(metadata.annotations))
                    metadata.annotations = { ...metadata.annotations, "pulumi.com/autonamed": "true" };
            }
            if (metadata.namespace === undefined) {
                const namespaced = await typeOf(news).then(
                    ({ type: found }) => found.namespaced,
                    // A kind that does not exist yet is taken to be namespaced, as the vendor does.
                    (error) => (error instanceof Unreachable ? olds.metadata?.namespace : true),
                );
                if (namespaced) metadata.namespace = config.namespace ?? "default";
            }
            return { inputs };
        },

        diff: (_resource, _id, olds, news) => objectDifference(olds.inputs, news, config),

        async create({ urn }: Resource, inputs, preview, timeout?: number) {
            const manager = fieldManagerOf(inputs, {});
            if (preview) return { id: "", outputs: await previewed(inputs, manager, "create") };
            const make = () => checkAbsent(inputs).then(() => apply(inputs, manager));
            for (const pause of createAgainAfter) {
                const applied = await make().catch((error) => {
                    if (!isGone(error)) throw error;
                    report(`${error.message} Trying again.`, { urn, passing: true });
                });
                if (applied)
                    return { id: idOf(applied), outputs: await ready(urn, applied, manager, timeout) };
                await sleep(pause);
            }
            const applied = await make();
            return { id: idOf(applied), outputs: await ready(urn, applied, manager, timeout) };
        },

        async update({ urn }: Resource, _id, olds, news, preview, timeout?: number) {
            const manager = fieldManagerOf(news, olds.outputs);
            if (preview) return await previewed(news, manager, "update");
            return await ready(urn, await apply(news, manager), manager, timeout);
        },

        async read({ type }, id, { inputs, outputs }) {
            const [, group = "", kind = ""] = type.split(":");
            const [name, namespace] = id.split("/").reverse();
            const named = {
                apiVersion: group.replace(/^core\//, ""),
                kind,
                ...inputs,
                metadata: { name, namespace },
            };
            try {
                const live = await call("GET", await pathOf(named));
                const manager = fieldManagerOf(inputs, outputs);
                const state = outputsOf(live, manager);
                const imported = Object.keys(inputs).length === 0;
                if (!imported && annotation("skipAwait", inputs) !== "true") {
                    const { ready, message, problems } = await readiness(live);
                    if (!ready) throw notReady(live, manager, [message, ...problems.map(textOf)]);
                }
                const current = imported ? importedInputs(live) : refreshed(inputs, outputs, state);
                return { id, inputs: current as Properties, outputs: state };
            } catch (error) {
                if (isGone(error) || (error instanceof Unreachable && forgets())) return undefined;
                throw withWayOut(error);
            }
        },

        async delete({ urn }: Resource, _id, { inputs, outputs }, timeout?: number) {
            try {
                const path = await pathOf(outputs);
                const propagationPolicy =
                    annotation("deletionPropagationPolicy", inputs, outputs) ?? "Foreground";
                const seconds = timeout || Number(annotation("timeoutSeconds", inputs)) || defaultTimeout;
                await call("DELETE", path, { query: { propagationPolicy } });
                if (annotation("skipAwait", inputs) === "true") return;
                const until = Date.now() + seconds * 1000;
                for (let first = true; ; first = false) {
                    const object = await call("GET", path);
                    if (object.metadata.uid !== outputs.metadata.uid) return;
                    if (first) report("Waiting for deletion to complete", { urn, passing: true });
                    if (Date.now() > until) throw stillThere(object, seconds);
                    await sleep(pollEvery);
                }
            } catch (error) {
                if (isGone(error) || (error instanceof Unreachable && forgets())) return;
                throw withWayOut(error);
            }
        },
    };

    /** Whether objects of a cluster out of reach are to be forgotten. */
    function forgets(): boolean {
        return String(config.deleteUnreachable ?? process.env.PULUMI_K8S_DELETE_UNREACHABLE) === "true";
    }
}

const isGone = (error: unknown) => error instanceof KubernetesError && error.status === 404;
const textOf = ({ subject, reason, message }: Problem) => `${subject}: [${reason}] ${message}`;
const idOf = ({ metadata }: Properties): string =>
    metadata.namespace ? `${metadata.namespace}/${metadata.name}` : metadata.name;

function unsupported(type: string, inputs: Properties): { inputs: Properties } {
    if (hasUnknown(inputs.metadata) && inputs.kind) return { inputs };
    throw new Error(
        `The sandbox's stand-in for the kubernetes plugin knows no ${type}: it makes objects of the API server, nothing of Helm and no patches. Install the plugin: pulumi plugin install resource kubernetes 4.34.2.`,
    );
}

/** A name of its own for each resource, so that two that set the same field see each other. */
const fieldManagerOf = (inputs: Properties, outputs: Properties): string =>
    annotation("patchFieldManager", inputs) ??
    outputs[fieldManagerKey] ??
    `pulumi-kubernetes-${randomBytes(4).toString("hex")}`;

/** The live object as the vendor's plugin keeps it, without the bookkeeping of fields, which is long and of no use. */
function outputsOf(object: KubernetesObject, fieldManager: string): Properties {
    const { managedFields: _, ...metadata } = object.metadata;
    return { ...object, metadata, [fieldManagerKey]: fieldManager, __initialApiVersion: object.apiVersion };
}

function notReady(object: KubernetesObject, fieldManager: string, reasons: string[]): NotReady {
    const message = `${object.kind} ${idOf(object)} exists but is not ready. ${reasons[0]}`;
    return new NotReady(message, idOf(object), outputsOf(object, fieldManager), reasons);
}

function stillThere({ kind, metadata, status }: KubernetesObject, seconds: number): Error {
    const finalizers = metadata.finalizers?.length
        ? ` Finalizers hold it: ${metadata.finalizers.join(", ")}.`
        : "";
    const said = (status?.conditions ?? []).map(({ message }: KubernetesObject) => ` ${message}`).join("");
    return new Error(`${kind} ${idOf({ metadata })} is still there after ${seconds} s.${finalizers}${said}`);
}

function withWayOut(error: unknown): unknown {
    if (!(error instanceof Unreachable)) return error;
    return new Error(
        `${error.message}. Where the cluster is gone for good, give its provider deleteUnreachable: true, or run \`pulumi up\` with PULUMI_K8S_DELETE_UNREACHABLE=true, or take the object out of the state with \`pulumi state delete\`.`,
    );
}
