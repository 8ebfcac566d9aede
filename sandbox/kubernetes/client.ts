import { setTimeout as sleep } from "node:timers/promises";
import { load } from "js-yaml";
import { Agent, request } from "undici";

/** A Kubernetes object as the API server gives it. */
// biome-ignore lint/suspicious/noExplicitAny: objects are of every kind.
export type KubernetesObject = Record<string, any>;

/** What the API server refused; `reason` is machine-readable, e.g. `NotFound`, `Conflict`. */
export class KubernetesError extends Error {
    constructor(
        readonly status: number,
        readonly reason: string,
        message: string,
    ) {
        super(message);
    }
}

/** The API server cannot be reached. */
export class Unreachable extends Error {}

/** What a request carries. */
export interface RequestOptions {
    query?: Record<string, string>;
    body?: object;
    contentType?: string;
}

/** Talks to one cluster's API server. */
export interface KubernetesClient {
    /** @throws KubernetesError, or Unreachable after some seconds of trying. */
    call(
        method: "GET" | "PATCH" | "DELETE",
        path: string,
        options?: RequestOptions,
    ): Promise<KubernetesObject>;
}

interface Kubeconfig {
    "current-context": string;
    contexts: { name: string; context: { cluster: string; user: string } }[];
    clusters: { name: string; cluster: { server: string; "certificate-authority-data": string } }[];
    users: { name: string; user: Record<string, string> }[];
}

/** How often a request that met a closed door is made again: an API server that restarts takes seconds. */
const tries = 20;
const betweenTries = 250;

/**
 * A client for the current context of a kubeconfig with a client certificate or a token.
 *
 * @param kubeconfig YAML or JSON text, or what such a text says.
 */
export function connect(kubeconfig: string | object): KubernetesClient {
    const config = (typeof kubeconfig === "string" ? load(kubeconfig) : kubeconfig) as Kubeconfig;
    const context = named(config.contexts, config["current-context"])?.context;
    const cluster = named(config.clusters, context?.cluster)?.cluster;
    const user = named(config.users, context?.user)?.user ?? {};
    if (!cluster) throw new Error("The kubeconfig names no cluster in its current context.");
    const pem = (value: string | undefined) => (value ? Buffer.from(value, "base64").toString() : undefined);
    const [ca, cert, key] = [
        pem(cluster["certificate-authority-data"]),
        pem(user["client-certificate-data"]),
        pem(user["client-key-data"]),
    ];
    const dispatcher = new Agent({
        connect: { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) },
    });
    return {
        async call(method, path, { query = {}, body, contentType = "application/json" } = {}) {
            for (let left = tries; ; left--) {
                const answer = await request(new URL(path, cluster.server), {
                    dispatcher,
                    method,
                    query,
                    headers: {
                        "content-type": contentType,
                        ...(user.token && { authorization: `Bearer ${user.token}` }),
                    },
                    body: body ? JSON.stringify(body) : null,
                }).catch((error: Error) => error);
                if (!("body" in answer)) {
                    if (left > 0) await sleep(betweenTries);
                    else
                        throw new Unreachable(
                            `The cluster at ${cluster.server} is unreachable: ${answer.message}`,
                        );
                    continue;
                }
                const text = await answer.body.text();
                // Of a group that it does not know, the API server speaks in plain text.
                const result: KubernetesObject = text.startsWith("{")
                    ? JSON.parse(text)
                    : { message: text.trim() };
                if (answer.statusCode < 400) return result;
                throw new KubernetesError(
                    answer.statusCode,
                    result.reason ?? "Unknown",
                    result.message ?? "",
                );
            }
        },
    };
}

const named = <T extends { name: string }>(all: T[], name: string | undefined) =>
    all.find((each) => each.name === name);
