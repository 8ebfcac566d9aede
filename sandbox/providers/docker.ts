import { spawn } from "node:child_process";
import { PassThrough } from "node:stream";
import Docker from "dockerode";
import { imageReference } from "../docker";
import { hasUnknown, type Properties, type Provider, type Report, unknown } from "../provider";
import { type Credentials, credentialsFor } from "../registry-login";
import { type BuildContext, basesOf, contextOf, digestOf } from "./build-context";
import { changedKeys } from "./difference";
import { type Manifest, readManifest } from "./registry-image";

/** Where the daemon and the program are. */
export interface DockerPlace {
    /** Directory of the program, from which its relative paths start. */
    directory: string;
    /** Resolves to the socket of the daemon once that is usable; asked only where the program names no `host`. */
    socketPath(): Promise<string>;
    /** Directory of docker's configuration, with the logins to registries. */
    configuration: string;
    /** PEM of the authority to trust for registries on loopback. */
    authority: string;
}

/** The last lines of a build that failed, shown with its error. */
const linesShown = 20;

type Tell = (line: string) => void;

/**
 * Stands in for the vendor's plugin of docker 5.2.0; knows Image: builds it by the daemon, pushes it, and keeps the digest
 * that the registry gave. Like the vendor's it neither reads nor deletes images. Knows the functions getRegistryImage and
 * getRegistryImageManifests too. All for the inputs that this program gives.
 */
export function dockerProvider(place: DockerPlace): (report: Report) => Provider {
    return (report) => {
        let host: string | undefined;

        async function daemon(): Promise<Docker> {
            const docker = new Docker(host ? optionsFor(host) : { socketPath: await place.socketPath() });
            await docker.ping().catch((error: Error) => {
                throw new Error(
                    `The Docker daemon does not answer: ${error.message}. Start it, or say in docker:host or DOCKER_HOST where it listens.`,
                );
            });
            return docker;
        }

        /** Builds and pushes; a preview does neither. */
        async function make(urn: string, inputs: Properties, preview: boolean): Promise<Properties> {
            const docker = await daemon();
            if (preview) return { ...inputs, repoDigest: unknown };
            const { imageName, registry, build: asked } = inputs;
            const tell: Tell = (line) => report(line, { urn, passing: true });
            tell("Building the image");
            const context = contextOf(place.directory, asked);
            await pullBases(docker, context, asked, tell);
            await build(docker, context, inputs, tell);
            tell("Pushing Image to the registry");
            const { server, username, password } = registry;
            const login = username ? { username, password } : credentialsFor(place.configuration, server);
            return {
                imageName,
                baseImageName: imageName,
                context: asked.context,
                dockerfile: context.dockerfile,
                platform: asked.platform,
                registryServer: server,
                repoDigest: await push(docker, imageName, { serveraddress: server, ...login }, tell),
            };
        }

        /** Pulls what needs a login. BuildKit would not: on loopback it speaks no TLS; but it takes what is there. */
        async function pullBases(
            docker: Docker,
            context: BuildContext,
            { args, platform }: Properties,
            tell: Tell,
        ): Promise<void> {
            for (const base of basesOf(context, args)) {
                const { server } = imageReference(base);
                const login = credentialsFor(place.configuration, server);
                if (!login || (await inspected(docker, base))) continue;
                const options = { authconfig: { serveraddress: server, ...login }, platform };
                await follow(docker, await docker.pull(base, options), tell, `Docker could not pull ${base}`);
            }
        }

        /** What the image is in its registry; where that is out of reach, what the daemon has. */
        async function manifestOf(name: string): Promise<Manifest> {
            const { server } = imageReference(name);
            const credentials = credentialsFor(place.configuration, server);
            const found = await readManifest(name, place.authority, credentials);
            if (found) return found;
            const image = await inspected(await daemon(), name);
            if (image) return localManifest(image, name);
            throw new Error(
                `Got bad response from registry: 404 Not Found (${server} is out of reach, and the Docker daemon does not have the image)`,
            );
        }

        return {
            version: "5.2.0",

            async invoke(token, { name }) {
                const [, asked] = /^docker:index\/\w+:(getRegistryImage(?:Manifests)?)$/.exec(token) ?? [];
                if (!asked) throw new Error(`The sandbox knows no function ${token}.`);
                const { repository, version } = imageReference(name);
                try {
                    const { digest, manifests } = await manifestOf(name);
                    if (asked === "getRegistryImage") return { name, id: digest, sha256Digest: digest };
                    // The vendor's, too, has no answer for an image of one platform.
                    if (!manifests) throw new Error("Error unsupported manifest response");
                    const shown = manifests.map(({ digest: sha256Digest, mediaType, platform }) => {
                        const { architecture = "", os = "" } = platform ?? {};
                        return { architecture, os, mediaType, sha256Digest };
                    });
                    return { name, id: `${repository}:${version}`, manifests: shown };
                } catch (error) {
                    const what = `Got error when attempting to fetch image version ${repository}:${version} from registry`;
                    throw new Error(`${what}: ${(error as Error).message}`);
                }
            },

            configure(config) {
                host = config.host;
            },

            check({ type }, _olds, news) {
                if (type !== "docker:index/image:Image")
                    throw new Error(
                        `The sandbox makes no ${type}, only Image. Install the plugin: pulumi plugin install resource docker 5.2.0.`,
                    );
                const build = { ...news.build };
                if (!hasUnknown([build.context, build.dockerfile]))
                    build.contextDigest = digestOf(contextOf(place.directory, build));
                return { inputs: { ...news, build, buildOnPreview: false } };
            },

            diff: (_resource, _id, olds, news) => ({ changed: changedInputs(olds.inputs, news) }),

            async create({ urn }, inputs, preview) {
                const outputs = await make(urn, inputs, preview);
                return { id: preview ? "" : inputs.imageName, outputs };
            },

            update: ({ urn }, _id, _olds, news, preview) => make(urn, news, preview),
            read: async (_resource, id, state) => ({ id, ...state }),
            delete: async () => undefined,
        };
    };
}

function optionsFor(host: string): Docker.DockerOptions {
    const { protocol, hostname, port, pathname } = new URL(host);
    if (protocol === "unix:") return { socketPath: pathname };
    if (protocol === "tcp:") return { protocol: "http", host: hostname, port: port || 2375 };
    throw new Error(`The sandbox reaches no Docker daemon at ${host}; docker:host takes unix:// and tcp://.`);
}

/** Inputs that changed, by their top-level names as the vendor tells them. New credentials make no new image. */
export function changedInputs(olds: Properties, news: Properties): string[] {
    const named = (inputs: Properties) => ({ ...inputs, registry: inputs.registry?.server });
    return changedKeys(named(olds), named(news));
}

async function build(docker: Docker, context: BuildContext, { imageName, build }: Properties, tell: Tell) {
    // A daemon without a bridge can give the build's containers no network but none.
    const bridges = await docker.listNetworks({ filters: { name: ["bridge"] } });
    const owner = ["--owner=0", "--group=0", "--numeric-owner"];
    const args = ["-c", "-C", context.root, ...owner, "--no-recursion", "--null", "-T", "-"];
    const tar = spawn("tar", args, { stdio: ["pipe", "pipe", "inherit"] });
    tar.stdin.end([...new Set([...context.files, context.dockerfile])].join("\0"));
    // Node throws away what nobody has begun to read when the process ends, and BuildKit's session is not open yet.
    const packed = tar.stdout.pipe(new PassThrough());
    const options: Docker.ImageBuildOptions = {
        t: imageName,
        dockerfile: context.dockerfile,
        version: "2",
        platform: build.platform,
        ...(build.args && { buildargs: await argumentsOf(docker, build.args) }),
        ...(bridges.length === 0 && { networkmode: "none" }),
    };
    const stream = await docker.buildImage(packed, options);
    await follow(docker, stream, tell, `Docker could not build ${imageName}`);
}

/** Pushes the image; resolves to its name by the registry's digest. The password goes in a header, nowhere else. */
async function push(
    docker: Docker,
    imageName: string,
    login: { serveraddress: string } & Partial<Credentials>,
    tell: Tell,
): Promise<string> {
    const authconfig = { username: "", password: "", ...login };
    const { server, repository, version: tag } = imageReference(imageName);
    const stream = await docker.getImage(`${server}/${repository}`).push({ tag, authconfig });
    const failed = `Docker could not push ${imageName}; check that ${authconfig.username || "everybody"} may push there`;
    const messages = await follow(docker, stream, tell, failed);
    const digest = messages.map(({ aux }) => aux?.Digest).find(Boolean);
    if (!digest)
        throw new Error(`Docker told no digest of ${imageName}. Run \`pulumi up\` to push it again.`);
    return `${server}/${repository}@${digest}`;
}

/** What the daemon knows of an image, or undefined where it does not have it. */
function inspected(docker: Docker, name: string): Promise<Docker.ImageInspectInfo | undefined> {
    return docker
        .getImage(name)
        .inspect()
        .catch((error: { statusCode?: number }) => {
            if (error.statusCode === 404) return undefined;
            throw error;
        });
}

/** An image of the daemon's as its registry would show it. One that does not come from there has its id for a digest. */
function localManifest(image: Docker.ImageInspectInfo, name: string): Manifest {
    const place = (reference: { server: string; repository: string }) =>
        `${reference.server}/${reference.repository}`;
    const digests = (image.RepoDigests ?? []).map(imageReference);
    const found = digests.find((each) => place(each) === place(imageReference(name)));
    const digest = found?.version ?? image.Id;
    const platform = { architecture: image.Architecture, os: image.Os };
    const mediaType = "application/vnd.docker.distribution.manifest.v2+json";
    return { digest, manifests: [{ digest, mediaType, platform }] };
}

/** Arguments of a build; where one is an image by the id that `localManifest` gave out for a digest, its tag says which. */
async function argumentsOf(docker: Docker, args: Record<string, string>) {
    const entries = Object.entries(args).map(async ([name, value]) => {
        const [, id] = /@(sha256:[\da-f]{64})$/.exec(value) ?? [];
        const image = id && !(await inspected(docker, value)) ? await inspected(docker, id) : undefined;
        return [name, image?.RepoTags?.[0] ?? value];
    });
    return Object.fromEntries(await Promise.all(entries));
}

interface Message {
    stream?: string;
    status?: string;
    id?: string;
    error?: string;
    aux?: { Digest?: string };
}

/** Passes on what the daemon says; rejects with its error and the lines before that. */
async function follow(docker: Docker, stream: NodeJS.ReadableStream, tell: Tell, failed: string) {
    const lines: string[] = [];
    const say = ({ stream: line, status, id }: Message) => {
        const said = plain((line ?? (status && [id, status].filter(Boolean).join(": ")) ?? "").trim());
        if (!said || said === lines.at(-1)) return;
        lines.push(said);
        tell(said);
    };
    // It decodes what BuildKit says, and is not in the typings.
    const { followProgress } = docker as unknown as { followProgress: Docker["modem"]["followProgress"] };
    const messages = await new Promise<Message[]>((done, reject) =>
        followProgress(stream, (error, all) => (error ? reject(error) : done(all)), say),
    );
    const error = messages.find((message) => message.error)?.error;
    if (error) throw new Error([`${failed}: ${error}`, ...lines.slice(-linesShown)].join("\n    "));
    return messages;
}

/** The output of a build's commands, which dockerode 5.0 leaves in base64 where BuildKit builds. */
function plain(line: string): string {
    const decoded = Buffer.from(line, "base64");
    const isBase64 = decoded.toString("base64") === line && /^[\s\x20-\x7e]*$/.test(decoded.toString());
    return isBase64 ? decoded.toString().trim() : line;
}
