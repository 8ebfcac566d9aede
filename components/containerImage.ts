import { getClientConfigOutput } from "@pulumi/azure-native/authorization/getClientConfig.js";
import { getClientTokenOutput } from "@pulumi/azure-native/authorization/getClientToken.js";
import { Image } from "@pulumi/docker/image.js";
import * as pulumi from "@pulumi/pulumi";
import { exchangeForRegistryToken, tokenUser } from "./registryToken";

/** What ContainerImage needs. */
export interface ContainerImageArgs {
    /** Login server of the registry to push to. */
    loginServer: pulumi.Input<string>;
    /** Repository in the registry, such as `nginx`. */
    repository: string;
    /** Tag to push under; what runs is the digest. */
    tag: string;
    /** What to build. */
    build: {
        /** Directory with the files that the image is made from. */
        context: string;
        /** Dockerfile in the context. Default: `Dockerfile`. */
        dockerfile?: string | undefined;
        /** Platform of the nodes that run it. */
        platform: "linux/amd64" | "linux/arm64";
    };
}

/**
 * An image built with docker and pushed to a registry by the caller's own Azure login: a token that lives for
 * hours, asked for at the push, and no password anywhere. The caller needs AcrPush, Contributor or Owner.
 */
export class ContainerImage extends pulumi.ComponentResource {
    /** The image by digest, `<login server>/<repository>@sha256:...`; changes with what is in it and with nothing else. */
    readonly ref: pulumi.Output<string>;
    /** The digest, `sha256:...`. */
    readonly digest: pulumi.Output<string>;

    constructor(name: string, args: ContainerImageArgs, opts?: pulumi.ComponentResourceOptions) {
        super("aks-acr:index:ContainerImage", name, {}, opts);

        const image = new Image(
            name,
            {
                imageName: pulumi.interpolate`${args.loginServer}/${args.repository}:${args.tag}`,
                build: {
                    context: args.build.context,
                    // Docker's provider looks for it from the project, not from the context.
                    dockerfile: `${args.build.context}/${args.build.dockerfile ?? "Dockerfile"}`,
                    platform: args.build.platform,
                },
                registry: {
                    server: args.loginServer,
                    username: tokenUser,
                    password: this.pushToken(args.loginServer),
                },
            },
            { parent: this },
        );

        this.digest = image.repoDigest.apply((reference) => digestOf(reference));
        this.ref = pulumi.interpolate`${args.loginServer}/${args.repository}@${this.digest}`;
        this.registerOutputs({ ref: this.ref, digest: this.digest });
    }

    private pushToken(loginServer: pulumi.Input<string>): pulumi.Output<string> {
        const invokes = { parent: this };
        const client = getClientConfigOutput(invokes);
        const azure = getClientTokenOutput({ endpoint: "https://containerregistry.azure.net" }, invokes);
        return pulumi.secret(
            pulumi
                .all([loginServer, client.tenantId, azure.token])
                // A preview pushes nothing, so it needs no token.
                .apply(([server, tenant, token]) =>
                    pulumi.runtime.isDryRun() ? "" : exchangeForRegistryToken(server, tenant, token),
                ),
        );
    }
}

/**
 * The digest in a reference that docker reports after a push.
 *
 * @throws pulumi.RunError where nothing was pushed and docker says `<none>@<none>`.
 */
export function digestOf(reference: string): string {
    const digest = /@(sha256:[\da-f]{64})$/.exec(reference)?.[1];
    if (digest) return digest;
    throw new pulumi.RunError(
        `Docker reports no digest for the pushed image (it says "${reference}"). Run \`pulumi up\` again to push it once more.`,
    );
}
