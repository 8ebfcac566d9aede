import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import dockerignore from "@balena/dockerignore";
import Dockerode from "dockerode";
import { hasUnknown, type Properties, type Provider, type Report, unknown } from "../provider";

/** Where the daemon and the program are. */
export interface DockerPlace {
    /** Directory that the program's relative paths start from. */
    directory: string;
    /** Resolves to the daemon's socket, once it is usable. */
    socketPath(): Promise<string>;
}

/**
 * Stands in for the vendor's docker provider 5.2 as far as `docker.Image` goes: builds with the daemon, pushes, and
 * knows the image by the digest that the registry gave it.
 */
export function dockerProvider(place: DockerPlace): (report: Report) => Provider {
    const daemon = async () => new Dockerode({ socketPath: await place.socketPath() });

    async function make(
        inputs: Properties,
        preview: boolean,
        tell: (line: string) => void,
    ): Promise<Properties> {
        const outputs = outputsOf(inputs);
        const docker = await daemon().catch((error: Error) => {
            throw new Error(`docker does not answer, so no image can be built: ${error.message}`);
        });
        if (preview) return { ...outputs, repoDigest: unknown };
        await build(docker, resolve(place.directory, inputs.build.context), inputs, tell);
        const digest = inputs.skipPush ? undefined : await push(docker, inputs, tell);
        const repository = inputs.imageName.replace(/:[^:/]*$/, "");
        return {
            ...outputs,
            repoDigest: digest ? `${repository}@${digest}` : await imageId(docker, inputs.imageName),
        };
    }

    return (report) => ({
        version: "5.2.0",
        async check(_resource, _olds, news) {
            if (hasUnknown(news.build)) return { inputs: news };
            const context = news.build?.context ?? ".";
            const dockerfile = news.build?.dockerfile ?? join(context, "Dockerfile");
            const contextDigest = digestOfContext(
                resolve(place.directory, context),
                resolve(place.directory, dockerfile),
            );
            const platform = news.build?.platform ?? `linux/${process.arch === "arm64" ? "arm64" : "amd64"}`;
            return {
                inputs: { ...news, build: { ...news.build, context, dockerfile, platform, contextDigest } },
            };
        },
        diff: (_resource, _id, olds, news) => ({ changed: changedProperties(olds.inputs, news) }),
        async create({ urn }, inputs, preview) {
            const outputs = await make(inputs, preview, (line) => report(line, { urn, passing: true }));
            return { id: preview ? "" : inputs.imageName, outputs };
        },
        read: async (_resource, id, state) => ({ id, ...state }),
        update: ({ urn }, _id, _olds, news, preview) =>
            make(news, preview, (line) => report(line, { urn, passing: true })),
        // The vendor's leaves the image where it is, too: others may run it.
        delete: async () => undefined,
    });
}

/** What changed; the credentials of a push say nothing about the image. */
export function changedProperties(olds: Properties, news: Properties): string[] {
    const told = ({ registry, ...rest }: Properties) => ({ ...rest, "registry.server": registry?.server });
    const [before, after] = [told(olds) as Properties, told(news) as Properties];
    const differ = (one: unknown, other: unknown) => hasUnknown(other) || !isDeepStrictEqual(one, other);
    return [...new Set([...Object.keys(before), ...Object.keys(after)])].flatMap((key) => {
        if (key !== "build") return differ(before[key], after[key]) ? [key] : [];
        const names = new Set([...Object.keys(before.build ?? {}), ...Object.keys(after.build ?? {})]);
        return [...names]
            .filter((name) => differ(before.build?.[name], after.build?.[name]))
            .map((name) => `build.${name}`);
    });
}

/** A digest of the files that a build can see: their paths, whether they can be executed, and what is in them. */
export function digestOfContext(context: string, dockerfile: string): string {
    const hash = createHash("sha256");
    for (const file of [...filesOf(context), dockerfile]) {
        const executable = statSync(file).mode & 0o111 ? "x" : "-";
        hash.update(`${relative(context, file)}\0${executable}\0`);
        hash.update(createHash("sha256").update(readFileSync(file)).digest());
    }
    return hash.digest("hex");
}

/** Files of a build context in order, without those that its .dockerignore names. */
function filesOf(context: string): string[] {
    const files = readdirSync(context, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => relative(context, join(entry.parentPath ?? entry.path, entry.name)))
        .sort();
    const ignore = dockerignore();
    if (files.includes(".dockerignore")) ignore.add(readFileSync(join(context, ".dockerignore"), "utf8"));
    return ignore.filter(files).map((file) => join(context, file));
}

function outputsOf({ build = {}, imageName, registry }: Properties): Properties {
    const { context, dockerfile, platform } = build;
    return {
        imageName,
        baseImageName: imageName,
        context,
        dockerfile,
        platform,
        registryServer: registry?.server,
    };
}

async function build(docker: Dockerode, context: string, inputs: Properties, tell: (line: string) => void) {
    const { dockerfile, platform, args, target } = inputs.build;
    const src = filesOf(context).map((file) => relative(context, file));
    const stream = await docker.buildImage(
        { context, src },
        {
            t: inputs.imageName,
            dockerfile: relative(context, resolve(context, "..", dockerfile)),
            platform,
            ...(args && { buildargs: args }),
            ...(target && { target }),
        },
    );
    await follow(docker, stream, tell, "docker build failed");
}

/** Pushes the image and resolves to the digest under which the registry keeps it. */
async function push(docker: Dockerode, { imageName, registry }: Properties, tell: (line: string) => void) {
    const { server: serveraddress, username, password } = registry ?? {};
    const stream = await docker
        .getImage(imageName)
        .push({ authconfig: { serveraddress, username, password } });
    const messages = await follow(
        docker,
        stream as unknown as NodeJS.ReadableStream,
        tell,
        `docker push ${imageName} failed`,
    );
    const digest = messages
        .map(({ aux }) => aux?.Digest)
        .filter(Boolean)
        .at(-1);
    if (!digest) throw new Error(`docker push ${imageName} reported no digest; run \`pulumi up\` again.`);
    return digest as string;
}

async function imageId(docker: Dockerode, imageName: string): Promise<string> {
    return (await docker.getImage(imageName).inspect()).Id;
}

interface Message {
    stream?: string;
    status?: string;
    error?: string;
    aux?: { Digest?: string };
}

/** Passes the daemon's messages on as they come; rejects with its error and the last lines before it. */
async function follow(
    docker: Dockerode,
    stream: NodeJS.ReadableStream,
    tell: (line: string) => void,
    failed: string,
) {
    const messages = await new Promise<Message[]>((done, reject) =>
        docker.modem.followProgress(
            stream,
            (error, all) => (error && !all ? reject(error) : done(all)),
            ({ stream: line, status }: Message) => {
                const text = (line ?? status ?? "").trim();
                if (text) tell(text);
            },
        ),
    );
    const error = messages.find((message) => message.error)?.error;
    if (error) {
        const last = messages.flatMap(({ stream: line }) => line?.trim() || []).slice(-15);
        throw new Error([`${failed}: ${error}`, ...last.map((line) => `  | ${line}`)].join("\n"));
    }
    return messages;
}
