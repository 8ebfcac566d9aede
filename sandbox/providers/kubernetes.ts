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
import { clusterDifference, importedInputs, objectDifference, refreshed } from "./difference";
import { deploymentReadiness, type Problem, type Readiness, serviceReadiness } from "./readiness";

/** Seconds to wait for an object to be ready or gone, without `customTimeouts`: the vendor's default. */
const defaultTimeout = 10 * 60;
const pollEvery = 300;

/** Kinds that are in no namespace, of those that this program could well make. */
const clusterWide = ["Namespace", "ClusterRole", "ClusterRoleBinding", "StorageClass", "PriorityClass"];

/** What the vendor's plugin keeps beside the live object: who owns the fields that were applied. */
const fieldManagerKey = "__fieldManager";

/**
 * Stands in for the vendor's plugin of kubernetes 4.34.2 for objects that have a name: server-side apply, waiting until a
 * Deployment has rolled out and a Service has endpoints, drift by reading. No Helm, no Patch resources, no YAML files.
 */
export function kubernetesProvider(report: Report): Provider {
    let client: KubernetesClient;
    let down: Unreachable | undefined;
    let config: Properties = {};

    /** Asks the API server; one that was out of reach for all the client's tries is not asked again in this run. */
    async function call(method: "GET" | "PATCH" | "DELETE", path: string, options?: RequestOptions) {
        if (down) throw down;
        return await client.call(method, path, options).catch((error) => {
            if (error instanceof Unreachable) down = error;
            throw error;
        });
    }

    /** Undefined where the object is gone, or its cluster is out of reach and the provider's configuration says to forget it. */
    async function unlessGone<T>(answer: Promise<T>): Promise<T | undefined> {
        return await answer.catch((error) => {
            if (isGone(error)) return undefined;
            if (!(error instanceof Unreachable)) throw error;
            if (config.deleteUnreachable) return undefined;
            throw new Error(
                `${error.message}. Where the cluster is gone for good, give its provider deleteUnreachable: true, or run \`pulumi up\` with PULUMI_K8S_DELETE_UNREACHABLE=true, or take the object out of the state with \`pulumi state delete\`.`,
            );
        });
    }

    async function apply(inputs: Properties, fieldManager: string, preview?: "create" | "update") {
        // What is to be replaced is still there at a preview, under another field manager.
        const force = String(preview === "create" || Boolean(config.enablePatchForce));
        const query = { fieldManager, force, fieldValidation: "Warn", ...(preview && { dryRun: "All" }) };
        const options = { query, body: inputs, contentType: "application/apply-patch+yaml" };
        return await call("PATCH", pathOf(inputs), options).catch((error) => {
            throw error instanceof KubernetesError
                ? refusal(inputs, error.status, error.reason, error.message)
                : error;
        });
    }

    /** The vendor's plugin takes over nothing that is there already. */
    async function checkAbsent(inputs: Properties): Promise<void> {
        const live = await call("GET", pathOf(inputs)).catch((error) => {
            if (!isGone(error)) throw error;
        });
        if (!live) return;
        const message = `${pluralOf(inputs.kind)} "${inputs.metadata.name}" already exists\nThis stack has not made it: delete it, choose another name, or take it over with \`pulumi import\`.`;
        throw refusal(inputs, 409, "AlreadyExists", message);
    }

    /** What would be after an update; the inputs where that cannot be told yet. */
    async function previewed(inputs: Properties, manager: string, kind: "create" | "update") {
        if (hasUnknown(inputs)) return inputs;
        try {
            const { status, ...object } = outputsOf(await apply(inputs, manager, kind), manager);
            return kind === "create" ? object : { ...object, status };
        } catch (error) {
            if (error instanceof Unreachable) return inputs;
            const { status = 0, message } = error as Partial<KubernetesError>;
            // Forbidden, or in a namespace or of a kind that the same update creates.
            if ([403, 404].includes(status)) return inputs;
            if (kind === "create" && /field is immutable/.test(`${message}`)) return inputs;
            throw error;
        }
    }

    /** Applies an object and waits until it is ready, telling what is awaited and what is wrong; gives its outputs. */
    async function applied(urn: string, inputs: Properties, manager: string, timeout = 0) {
        let object = await apply(inputs, manager);
        if (!isAwaited(inputs)) return outputsOf(object, manager);
        const seconds = timeout || defaultTimeout;
        const until = Date.now() + seconds * 1000;
        const said = new Set<string>();
        for (; ; await sleep(pollEvery)) {
            let state: Readiness;
            try {
                object = await call("GET", pathOf(inputs));
                state = await readiness(object);
            } catch (error) {
                if (error instanceof KubernetesError && error.status >= 429 && Date.now() < until) continue;
                // It is there all the same, and the state must know.
                throw notReady(object, manager, [(error as Error).message]);
            }
            if (state.message && !said.has(state.message)) report(state.message, { urn, passing: true });
            said.add(state.message);
            if (state.ready) return outputsOf(object, manager);
            for (const problem of state.problems) {
                // An image that cannot be pulled changes between two reasons.
                const key = problem.subject + problem.reason.replace("ImagePullBackOff", "ErrImagePull");
                if (!said.has(key)) report(textOf(problem), { urn, warning: true });
                said.add(key);
            }
            if (Date.now() > until)
                throw notReady(object, manager, [
                    `Timed out after ${seconds} s: ${state.message}`,
                    ...state.problems.map(textOf),
                ]);
        }
    }

    async function readiness(object: KubernetesObject): Promise<Readiness> {
        const { namespace, name } = object.metadata;
        const list = async (group: string, type: string, labels: object): Promise<KubernetesObject[]> => {
            const labelSelector = Object.entries(labels).map((label) => label.join("="));
            const path = `${group}/namespaces/${namespace}/${type}`;
            return (await call("GET", path, { query: { labelSelector: labelSelector.join(",") } })).items;
        };
        if (object.kind === "Deployment") {
            const { matchLabels } = object.spec.selector;
            const replicaSets = await list("/apis/apps/v1", "replicasets", matchLabels);
            return deploymentReadiness(object, replicaSets, await list("/api/v1", "pods", matchLabels));
        }
        if (object.kind === "Service") {
            const labels = { "kubernetes.io/service-name": name };
            return serviceReadiness(await list("/apis/discovery.k8s.io/v1", "endpointslices", labels));
        }
        return { ready: true, message: "", problems: [] };
    }

    /** The inputs and outputs of a live object: what is to be imported, or what has changed since the state was written. */
    async function current(
        named: Properties,
        { inputs, outputs }: { inputs: Properties; outputs: Properties },
    ) {
        const live = await call("GET", pathOf(named));
        const manager = fieldManagerOf(outputs);
        const state = outputsOf(live, manager);
        if (Object.keys(inputs).length === 0) return { inputs: importedInputs(live), outputs: state };
        if (isAwaited(inputs)) {
            const { ready, message, problems } = await readiness(live);
            if (!ready) throw notReady(live, manager, [message, ...problems.map(textOf)]);
        }
        return { inputs: refreshed(inputs, outputs, state) as Properties, outputs: state };
    }

    async function deleted(urn: string, object: Properties, timeout: number, awaited: boolean) {
        const path = pathOf(object);
        await call("DELETE", path, { query: { propagationPolicy: "Foreground" } });
        const until = Date.now() + timeout * 1000;
        for (let first = true; awaited; first = false) {
            const live = await call("GET", path);
            if (live.metadata.uid !== object.metadata.uid) return;
            if (first) report("Waiting for deletion to complete", { urn, passing: true });
            if (Date.now() > until) throw stillThere(live, timeout);
            await sleep(pollEvery);
        }
    }

    return {
        version: "4.34.2",

        configure(given) {
            config = given;
            client = connect(given.kubeconfig);
        },

        diffConfig: clusterDifference,

        check({ type }, _olds, news) {
            const { kind, metadata } = news;
            if (kind !== type.split(":")[2] || !metadata?.name)
                throw new Error(
                    `The sandbox's stand-in for the kubernetes plugin knows no ${type}: it makes objects of the API server that are given a name, nothing of Helm and no patches. Install the plugin: pulumi plugin install resource kubernetes 4.34.2.`,
                );
            const place = clusterWide.includes(kind) ? {} : { namespace: "default" };
            return { inputs: { ...news, metadata: { ...place, ...metadata } } };
        },

        diff: (_resource, _id, olds, news) => objectDifference(olds.inputs, news),

        async create({ urn }: Resource, inputs, preview, timeout?: number) {
            const manager = fieldManagerOf({});
            if (preview) return { id: "", outputs: await previewed(inputs, manager, "create") };
            await checkAbsent(inputs);
            return { id: idOf(inputs), outputs: await applied(urn, inputs, manager, timeout) };
        },

        async update({ urn }: Resource, _id, olds, news, preview, timeout?: number) {
            const manager = fieldManagerOf(olds.outputs);
            if (preview) return await previewed(news, manager, "update");
            return await applied(urn, news, manager, timeout);
        },

        async read({ type }, id, state) {
            const [, group = "", kind = ""] = type.split(":");
            const [name, namespace] = id.split("/").reverse();
            const apiVersion = group.replace(/^core\//, "");
            const metadata = { name, namespace };
            const found = await unlessGone(current({ apiVersion, kind, metadata }, state));
            return found && { id, ...found };
        },

        async delete({ urn }: Resource, _id, { inputs, outputs }, timeout?: number) {
            await unlessGone(deleted(urn, outputs, timeout || defaultTimeout, isAwaited(inputs)));
        },
    };
}

const isGone = (error: unknown) => error instanceof KubernetesError && error.status === 404;
const textOf = ({ subject, reason, message }: Problem) => `${subject}: [${reason}] ${message}`;
const idOf = ({ metadata }: Properties): string =>
    metadata.namespace ? `${metadata.namespace}/${metadata.name}` : metadata.name;

const isAwaited = ({ metadata }: Properties): boolean =>
    metadata.annotations?.["pulumi.com/skipAwait"] !== "true";

/** Where the API server has an object ("Kubernetes API Concepts", Resource URIs). */
function pathOf({ apiVersion, kind, metadata: { name, namespace } }: Properties): string {
    const group = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    return `${group}${namespace ? `/namespaces/${namespace}` : ""}/${pluralOf(kind)}/${name}`;
}

/** The plural of a kind, as client-go guesses it (`UnsafeGuessKindToResource`). */
const pluralOf = (kind: string) => `${kind.toLowerCase()}s`.replace(/ss$/, "ses").replace(/ys$/, "ies");

function refusal(inputs: Properties, status: number, reason: string, message: string): KubernetesError {
    const what = `${inputs.kind} ${idOf(inputs)}`;
    return new KubernetesError(status, reason, `${what} was refused by the API server: ${message}`);
}

/** A name of its own for each resource, so that two that set the same field see each other. */
const fieldManagerOf = (outputs: Properties): string =>
    outputs[fieldManagerKey] ?? `pulumi-kubernetes-${randomBytes(4).toString("hex")}`;

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
    // A namespace says here what holds it.
    const said = (status?.conditions ?? []).map(({ message }: KubernetesObject) => ` ${message}`).join("");
    return new Error(`${kind} ${idOf({ metadata })} is still there after ${seconds} s.${said}`);
}
