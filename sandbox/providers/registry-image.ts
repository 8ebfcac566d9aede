import { Agent, EnvHttpProxyAgent, fetch, type Response } from "undici";
import { imageReference } from "../docker";
import { reachable } from "../download";
import { basic, type Credentials } from "../registry-login";

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

/**
 * Reads what an image's name stands for in its registry (OCI distribution specification, with docker's token
 * authentication). Resolves to undefined where the registry is out of reach.
 *
 * @param authority PEM of the authority to trust for registries on loopback.
 * @param credentials docker's login there. Default: anonymous.
 * @throws Error with the vendor's text where the registry refuses.
 */
export async function readManifest(
    name: string,
    authority: string,
    credentials?: Credentials,
): Promise<Manifest | undefined> {
    const { server, repository, version } = imageReference(name);
    const isHub = server === "docker.io";
    const host = isHub ? "registry-1.docker.io" : server;
    // What it says is remembered, so that not every preview waits for what does not answer.
    if (isHub && !(await reachable(`https://${host}/v2/`, [200, 401]))) return undefined;
    const isLoopback = /^(127\.|localhost)/.test(server);
    const dispatcher = isLoopback ? new Agent({ connect: { ca: authority } }) : new EnvHttpProxyAgent();
    const get = (url: string, authorization?: string) => {
        const headers = { accept, ...(authorization && { authorization }) };
        return fetch(url, { headers, dispatcher, signal: AbortSignal.timeout(patience) });
    };
    const url = `https://${host}/v2/${repository}/manifests/${version}`;
    let answer = await get(url).catch(() => undefined);
    if (answer?.status === 401) {
        const challenge = answer.headers.get("www-authenticate") ?? "";
        const given = (key: string) => new RegExp(`[ ,]${key}="([^"]*)"`).exec(challenge)?.[1] ?? "";
        if (!given("realm").startsWith("https://")) throw refusal(answer);
        const query = new URLSearchParams({
            service: given("service"),
            scope: `repository:${repository}:pull`,
        });
        const granted = await get(`${given("realm")}?${query}`, credentials && basic(credentials));
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
