import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { load } from "js-yaml";
import { Agent, request } from "undici";
import { paths } from "../home";

/** A Kubernetes object as the API server gives it. */
// biome-ignore lint/suspicious/noExplicitAny: objects are of every kind.
export type KubernetesObject = Record<string, any>;

/** Whether a node or a pod says in its status that it is Ready. */
export const isReady = ({ conditions = [] }: KubernetesObject): boolean =>
    conditions.some(({ type, status }: KubernetesObject) => type === "Ready" && status === "True");

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

/** A command that prints a credential ("Authenticating", client-go credential plugins). */
interface Exec {
    apiVersion: string;
    command: string;
    args?: string[] | null;
    env?: { name: string; value: string }[] | null;
}

/** Milliseconds until a request that met a closed door is made again: an API server that restarts takes seconds. */
const betweenTries = 250;

/**
 * A client for the current context of a kubeconfig with a client certificate, a token, or a command that gives one.
 *
 * @param kubeconfig YAML or JSON text, or what such a text says.
 * @param tries how often a request that met a closed door is made again.
 */
export function connect(kubeconfig: string | object, tries = 20): KubernetesClient {
    const config = (typeof kubeconfig === "string" ? load(kubeconfig) : kubeconfig) as KubernetesObject;
    const named = (kind: string, name: string) =>
        config[`${kind}s`].find((each: KubernetesObject) => each.name === name)?.[kind];
    const context = named("context", config["current-context"]);
    const cluster = named("cluster", context?.cluster);
    const user = named("user", context?.user) ?? {};
    if (!cluster) throw new Error("The kubeconfig names no cluster in its current context.");
    const pem = (value = "") => Buffer.from(value, "base64").toString() || undefined;
    const dispatcher = new Agent({
        connect: {
            ca: pem(cluster["certificate-authority-data"]),
            cert: pem(user["client-certificate-data"]),
            key: pem(user["client-key-data"]),
        } as object,
    });
    const bearer: () => Promise<string | undefined> = user.exec
        ? tokenFrom(user.exec, cluster.server)
        : async () => user.token;
    return {
        async call(method, path, { query = {}, body, contentType = "application/json" } = {}) {
            const token = await bearer();
            for (let left = tries; ; left--) {
                const answer = await request(new URL(path, cluster.server), {
                    dispatcher,
                    method,
                    query,
                    headers: {
                        "content-type": contentType,
                        ...(token && { authorization: `Bearer ${token}` }),
                    },
                    body: body ? JSON.stringify(body) : null,
                }).catch((error: Error) => error);
                if (answer instanceof Error) {
                    if (left === 0)
                        throw new Unreachable(
                            `The cluster at ${cluster.server} is unreachable: ${answer.message}`,
                        );
                    await sleep(betweenTries);
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

/** Gives the token of a command, run anew where that has expired. The sandbox's own commands are found first. */
function tokenFrom({ apiVersion, command, args, env }: Exec, server: string): () => Promise<string> {
    const info = { apiVersion, kind: "ExecCredential", spec: { interactive: false } };
    const environment = {
        ...process.env,
        PATH: `${paths.bin}:${process.env.PATH}`,
        ...Object.fromEntries((env ?? []).map(({ name, value }) => [name, value])),
        KUBERNETES_EXEC_INFO: JSON.stringify(info),
    };
    const ask = async () => {
        const { stdout } = await promisify(execFile)(command, args ?? [], { env: environment }).catch(
            (error: Error & { stderr?: string }) => {
                const reason = error.stderr?.trim() || error.message;
                throw new Unreachable(`${command} gives no token for the cluster at ${server}: ${reason}`);
            },
        );
        const { token, expirationTimestamp = "" } = JSON.parse(stdout).status;
        return { token, expires: Date.parse(expirationTimestamp) || Infinity };
    };
    let last: ReturnType<typeof ask> | undefined;
    return async () => {
        const kept = await last?.catch(() => undefined);
        if (kept && Date.now() < kept.expires) return kept.token;
        last = ask();
        return (await last).token;
    };
}
