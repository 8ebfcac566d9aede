import { Agent, EnvHttpProxyAgent, fetch, type Response } from "undici";
import { hubRepository } from "../docker";
import type { Credentials } from "../docker-configuration";
import { reachable } from "../download";

/** Where an image is: what its name means to docker. */
export interface ImageReference {
    /** Host and port; `docker.io` where the name has none. */
    server: string;
    /** With `library/` in front for Docker Hub's own. */
    repository: string;
    /** The digest where there is one, else the tag. Default: `latest`. */
    version: string;
}

/** Takes an image's name apart, such as `nginx:1.29` or `127.0.0.1:5000/nginx@sha256:...`. */
export function imageReference(name: string): ImageReference {
    const [, path = "", tag = "latest", digest] = /^(.*?)(?::([^:/@]+))?(?:@(.+))?$/.exec(name) ?? [];
    const version = digest ?? tag;
    const repository = hubRepository(name);
    if (repository) return { server: "docker.io", repository, version };
    const [server = "", ...rest] = path.split("/");
    return { server, repository: rest.join("/"), version };
}

/** A manifest, or a list of them for many platforms. */
export interface Manifest {
    digest: string;
    manifests?: {
        digest: string;
        mediaType: string;
        platform?: { architecture?: string; os?: string };
    }[];
}

const accept = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");
/** Milliseconds until a registry that does not answer counts as out of reach. */
const patience = 10_000;

/** How a registry is asked. */
export interface RegistryOptions {
    credentials?: Credentials | undefined;
    /** PEM of the authority to trust for registries on loopback. */
    authority: string;
    /** Whether any certificate will do. Default: false. */
    insecureSkipVerify?: boolean | undefined;
}

/**
 * Reads what an image's name stands for in its registry (OCI distribution specification, with docker's token
 * authentication). Resolves to undefined where the registry is out of reach.
 *
 * @throws Error with the vendor's text where the registry refuses.
 */
export async function readManifest(
    { server, repository, version }: ImageReference,
    { credentials, authority, insecureSkipVerify = false }: RegistryOptions,
): Promise<Manifest | undefined> {
    const isHub = server === "docker.io";
    const host = isHub ? "registry-1.docker.io" : server;
    // What it says is remembered, so that not every preview waits for what does not answer.
    if (isHub && !(await reachable(`https://${host}/v2/`, [200, 401]))) return undefined;
    const isLoopback = /^(127\.|localhost)/.test(server);
    const connect = { rejectUnauthorized: !insecureSkipVerify, ...(isLoopback && { ca: authority }) };
    const dispatcher = isLoopback ? new Agent({ connect }) : new EnvHttpProxyAgent({ connect });
    const get = (url: string, authorization?: string) => {
        const headers = { accept, ...(authorization && { authorization }) };
        return fetch(url, { headers, dispatcher, signal: AbortSignal.timeout(patience) });
    };
    const url = `https://${host}/v2/${repository}/manifests/${version}`;
    let answer = await get(url).catch(() => undefined);
    if (answer?.status === 401) {
        const challenge = answer.headers.get("www-authenticate") ?? "";
        const given = (name: string) => new RegExp(`[ ,]${name}="([^"]*)"`).exec(challenge)?.[1] ?? "";
        if (!given("realm").startsWith("https://")) throw refusal(answer);
        const query = new URLSearchParams({
            service: given("service"),
            scope: `repository:${repository}:pull`,
        });
        const basic = credentials && `Basic ${base64(`${credentials.username}:${credentials.password}`)}`;
        const granted = await get(`${given("realm")}?${query}`, basic);
        if (!granted.ok) throw refusal(granted);
        const { token, access_token = token } = (await granted.json()) as Record<string, string>;
        answer = await get(url, `Bearer ${access_token}`);
    }
    if (answer && !answer.ok) throw refusal(answer);
    const digest = answer?.headers.get("docker-content-digest") ?? "";
    return answer && { ...((await answer.json()) as object), digest };
}

const refusal = ({ status, statusText }: Response) =>
    new Error(`Got bad response from registry: ${status} ${statusText}`);
const base64 = (value: string) => Buffer.from(value).toString("base64");
