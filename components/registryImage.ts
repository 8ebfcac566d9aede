import { tokenUser } from "./registryToken";
import { UserError } from "./userError";

// An image in a registry, read by the OCI distribution protocol: no docker needed.

const accept = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

/** An image's manifest, or an index of those for several platforms. */
interface Manifest {
    manifests?: { digest: string; platform?: { architecture?: string } }[];
    config?: { digest: string };
    layers?: { digest: string }[];
}

/** An image in a registry, and the registry's token for a caller that may read it, or write it. */
export interface RegistryImage {
    loginServer: string;
    repository: string;
    /** `sha256:...`. */
    digest: string;
    refreshToken: string;
}

/** Splits `<login server>/<repository>@sha256:...`. */
export function partsOf(image: string): Pick<RegistryImage, "loginServer" | "repository" | "digest"> {
    const [, loginServer = "", repository = "", digest = ""] = /^([^/]+)\/(.+)@(.+)$/.exec(image) ?? [];
    return { loginServer, repository, digest };
}

/**
 * The digest in a reference that docker reports after a push.
 *
 * @throws UserError where nothing was pushed and docker says `<none>@<none>`.
 */
export function digestOf(reference: string): string {
    const digest = /@(sha256:[\da-f]{64})$/.exec(reference)?.[1];
    if (digest) return digest;
    throw new UserError(
        `Docker reports no digest for the pushed image (it says "${reference}"). Run \`pulumi up\` again to push it once more.`,
    );
}

/**
 * The architectures that an image is there for, or undefined where the registry does not have it.
 *
 * @throws Error where the registry answers anything else.
 */
export async function architecturesOfImage(image: RegistryImage): Promise<string[] | undefined> {
    const call = await connect(image, "pull");
    const answer = await call("GET", `manifests/${image.digest}`);
    if (answer.status === 404) return undefined;
    const { manifests, config } = (await answer.json()) as Manifest;
    if (manifests) return manifests.flatMap(({ platform }) => platform?.architecture ?? []);
    const found = await call("GET", `blobs/${config?.digest}`);
    const { architecture } = (await found.json()) as { architecture?: string };
    return architecture ? [architecture] : [];
}

/**
 * Copies an image to another registry, byte for byte, so that its digest stays; what is there already is not sent again.
 *
 * @param tag what the copy is called beside its digest.
 * @throws UserError where the image is gone from its registry, Error where a registry answers anything unexpected.
 */
export async function copyImage(from: RegistryImage, to: RegistryImage, tag: string): Promise<void> {
    const [source, target] = await Promise.all([connect(from, "pull"), connect(to, "pull,push")]);
    const copyManifest = async (reference: string, name = reference): Promise<void> => {
        if ((await target("HEAD", `manifests/${name}`)).headers.get("docker-content-digest") === reference)
            return;
        const answer = await source("GET", `manifests/${reference}`);
        if (answer.status === 404) {
            throw new UserError(
                `${from.loginServer} no longer has ${from.repository}@${reference}. Deploy it there again, then promote that.`,
            );
        }
        const body = await answer.text();
        const { manifests = [], config, layers = [] } = JSON.parse(body) as Manifest;
        await Promise.all([
            ...manifests.map(({ digest }) => copyManifest(digest)),
            ...[...layers, ...(config ? [config] : [])].map(({ digest }) => copyBlob(digest)),
        ]);
        const type = answer.headers.get("content-type") ?? "";
        await target("PUT", `manifests/${name}`, { body, headers: { "content-type": type } });
    };
    const copyBlob = async (digest: string): Promise<void> => {
        if ((await target("HEAD", `blobs/${digest}`)).ok) return;
        const content = await (await source("GET", `blobs/${digest}`)).arrayBuffer();
        const place = (await target("POST", "blobs/uploads/")).headers.get("location") ?? "";
        const upload = new URL(place, `https://${to.loginServer}`);
        upload.searchParams.set("digest", digest);
        const headers = { "content-type": "application/octet-stream" };
        await target("PUT", upload, { body: content, headers });
    };
    await copyManifest(from.digest);
    await copyManifest(from.digest, tag);
}

type Call = (method: string, path: string | URL, options?: RequestInit) => Promise<Response>;

/** Calls to one repository with an access token for these actions; a path is one below the repository. */
async function connect(image: RegistryImage, actions: string): Promise<Call> {
    const { loginServer, repository, refreshToken } = image;
    const query = new URLSearchParams({ service: loginServer, scope: `repository:${repository}:${actions}` });
    const basic = Buffer.from(`${tokenUser}:${refreshToken}`).toString("base64");
    const granted = await fetch(`https://${loginServer}/oauth2/token?${query}`, {
        headers: { authorization: `Basic ${basic}` },
    });
    const { access_token: token } = granted.ok
        ? ((await granted.json()) as { access_token: string })
        : unexpected("GET", `https://${loginServer}/oauth2/token`, granted);
    return async (method, path, options = {}) => {
        const url = typeof path === "string" ? `https://${loginServer}/v2/${repository}/${path}` : path;
        const headers = { accept, authorization: `Bearer ${token}`, ...options.headers };
        const answer = await fetch(url, { ...options, method, headers });
        return answer.ok || answer.status === 404 ? answer : unexpected(method, url, answer);
    };
}

function unexpected(method: string, url: string | URL, { status }: Response): never {
    throw new UserError(`${method} ${String(url).split("?")[0]} is answered with HTTP ${status}.`);
}
