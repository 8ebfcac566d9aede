import { join, relative } from "node:path";
import { getClientConfigOutput } from "@pulumi/azure-native/authorization/getClientConfig.js";
import { getClientTokenOutput } from "@pulumi/azure-native/authorization/getClientToken.js";
import { Image } from "@pulumi/docker/image.js";
import * as pulumi from "@pulumi/pulumi";
import type { RegistryPermissions } from "./acrPull";
import { explainPush } from "./errorHooks";
import { copyImage, digestOf, partsOf } from "./registryImage";
import { exchangeForRegistryToken, registryAudience, tokenUser } from "./registryToken";

/** What ContainerImage needs: an image to build, one to import, one that the registry has already, or one of another registry. */
export type ContainerImageArgs = { loginServer: pulumi.Input<string> } & (
    | ({ build: BuildArgs } & PushArgs)
    | ({ import: string } & PushArgs)
    | { ref: string }
    | ({ copy: string } & CopyArgs)
);

/** What to build. */
export interface BuildArgs {
    /** Directory with the files that the image is made from. */
    context: string;
    /** Dockerfile in the context. Default: `Dockerfile`. */
    dockerfile?: string | undefined;
}

/** What a copy is called, beside its digest. */
export interface CopyArgs {
    /** Tag to push under; what runs is the digest. */
    tag: string;
    /** The registry's mode, for what to ask for where it refuses. Default: `rbac`. */
    permissions?: RegistryPermissions | undefined;
}

/** Where a built or imported image goes, and how. */
export interface PushArgs extends CopyArgs {
    /** Repository in the registry, such as `nginx`. */
    repository: string;
    /** Platform of the nodes that run it. */
    platform: string;
    /** `azure`: with a token from the caller's Azure login. `docker`: as docker is logged in. Default: `azure`. */
    login?: "azure" | "docker" | undefined;
}

/**
 * An image in a registry. A built or imported one is pushed by the caller's own Azure login: a token that lives for hours,
 * asked for at the push, and no password anywhere. The caller needs AcrPush, Contributor or Owner; in ABAC mode Container
 * Registry Repository Writer. One that is there already is taken by its digest; nothing is pushed and no docker needed. A copy
 * from another registry keeps its digest.
 */
export class ContainerImage extends pulumi.ComponentResource {
    /** The image by digest, `<login server>/<repository>@sha256:...`; changes with what is in it and with nothing else. */
    readonly ref: pulumi.Output<string>;
    /** The digest, `sha256:...`. */
    readonly digest: pulumi.Output<string>;

    constructor(name: string, args: ContainerImageArgs, opts?: pulumi.ComponentResourceOptions) {
        super("aks-acr:index:ContainerImage", name, {}, opts);

        const { repository, digest } = this.made(name, args);
        this.digest = pulumi.output(digest);
        this.ref = pulumi.interpolate`${args.loginServer}/${repository}@${this.digest}`;
        this.registerOutputs({ ref: this.ref, digest: this.digest });
    }

    private made(
        name: string,
        args: ContainerImageArgs,
    ): { repository: string; digest: pulumi.Input<string> } {
        if ("copy" in args) {
            const { repository } = partsOf(args.copy);
            return { repository, digest: this.copied(args) };
        }
        if (!("ref" in args)) return { repository: args.repository, digest: this.pushed(name, args) };
        const [repository = "", digest = ""] = args.ref.split("@");
        return { repository, digest };
    }

    private copied({
        copy,
        tag,
        loginServer,
        permissions,
    }: Extract<ContainerImageArgs, { copy: string }>): pulumi.Output<string> {
        const from = partsOf(copy);
        const { client, azure } = this.azureLogin();
        return pulumi.all([loginServer, client, azure.token]).apply(async ([server, caller, token]) => {
            // A preview knows the digest already: it stays.
            if (pulumi.runtime.isDryRun()) return from.digest;
            const [source, target] = await Promise.all([
                exchangeForRegistryToken(from.loginServer, caller, token),
                exchangeForRegistryToken(server, caller, token, { permissions }),
            ]);
            await copyImage(
                { ...from, refreshToken: source },
                { ...from, loginServer: server, refreshToken: target },
                tag,
            );
            return from.digest;
        });
    }

    private pushed(
        name: string,
        args: Extract<ContainerImageArgs, { platform: string }>,
    ): pulumi.Output<string> {
        const { context, dockerfile = "Dockerfile" } = "build" in args ? args.build : importContext();
        const image = new Image(
            name,
            {
                imageName: pulumi.interpolate`${args.loginServer}/${args.repository}:${args.tag}`,
                build: {
                    context,
                    // Docker's provider looks for it from the project, not from the context.
                    dockerfile: `${context}/${dockerfile}`,
                    platform: args.platform,
                    ...("import" in args && { args: { SOURCE: args.import } }),
                },
                registry: {
                    server: args.loginServer,
                    ...(args.login !== "docker" && {
                        username: tokenUser,
                        password: this.pushToken(args.loginServer, args.permissions),
                    }),
                },
            },
            { parent: this, hooks: { onError: [explainPush(`${name}-refused`, args.login ?? "azure")] } },
        );
        return image.repoDigest.apply(digestOf);
    }

    private pushToken(
        loginServer: pulumi.Input<string>,
        permissions: RegistryPermissions | undefined,
    ): pulumi.Output<string> {
        const { client, azure } = this.azureLogin();
        return pulumi.secret(
            pulumi.all([loginServer, client, azure.token]).apply(([server, caller, token]) =>
                // A preview pushes nothing, so it needs no token. What a plan says instead must be open: an update that breaks its
                // plan is refused, and the engine prints what it found.
                pulumi.runtime.isDryRun()
                    ? (pulumi.unknown as unknown as string)
                    : exchangeForRegistryToken(server, caller, token, { permissions }),
            ),
        );
    }

    private azureLogin() {
        const invokes = { parent: this };
        const azure = getClientTokenOutput({ endpoint: registryAudience }, invokes);
        return { client: getClientConfigOutput(invokes), azure };
    }
}

/** What an import builds: a Dockerfile of one line, beside this file; its path is the same on every machine. */
function importContext(): BuildArgs {
    return { context: relative(process.cwd(), join(__dirname, "import")).replaceAll("\\", "/") };
}
