import type { Architecture } from "./agentPool";
import { tokenUser } from "./registryToken";

// An image in a registry, read by the OCI distribution protocol: no docker needed.

const accept = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

interface Manifest {
    manifests?: { platform?: { architecture?: string } }[];
    config?: { digest: string };
}

/**
 * The architectures that an image is there for, or undefined where the registry does not have it.
 *
 * @param ref `<repository>@sha256:...`.
 * @param refreshToken the registry's token for a caller that may pull.
 * @throws Error where the registry answers anything else.
 */
export async function architecturesOfImage(
    loginServer: string,
    ref: string,
    refreshToken: string,
): Promise<string[] | undefined> {
    const [repository = "", digest = ""] = ref.split("@");
    const query = new URLSearchParams({ service: loginServer, scope: `repository:${repository}:pull` });
    const basic = Buffer.from(`${tokenUser}:${refreshToken}`).toString("base64");
    const granted = await get(`https://${loginServer}/oauth2/token?${query}`, `Basic ${basic}`);
    const { access_token: token } = (await granted.json()) as { access_token: string };
    const read = (path: string) => get(`https://${loginServer}/v2/${repository}/${path}`, `Bearer ${token}`);
    const answer = await read(`manifests/${digest}`);
    if (answer.status === 404) return undefined;
    const { manifests, config } = (await answer.json()) as Manifest;
    if (manifests) return manifests.flatMap(({ platform }) => platform?.architecture ?? []);
    const image = (await (await read(`blobs/${config?.digest}`)).json()) as { architecture?: Architecture };
    return image.architecture ? [image.architecture] : [];
}

async function get(url: string, authorization: string): Promise<Response> {
    const answer = await fetch(url, { headers: { accept, authorization } });
    if (answer.ok || answer.status === 404) return answer;
    throw new Error(`${url.split("?")[0]} answers HTTP ${answer.status}`);
}
