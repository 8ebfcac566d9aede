import { Registry } from "@pulumi/azure-native/containerregistry/registry.js";
import * as pulumi from "@pulumi/pulumi";
import { RandomString } from "@pulumi/random/randomString.js";
import { explainRefusal } from "./errorHooks";
import type { ExistingRegistry } from "./existing";

/** What ContainerRegistry needs: what to create, or what is there already and only read. */
export type ContainerRegistryArgs = NewRegistryArgs | { existing: ExistingRegistry };

/** A registry to create. */
export interface NewRegistryArgs {
    /** Resource group to create the registry in. */
    resourceGroupName: pulumi.Input<string>;
    /**
     * Name of the registry: 5 to 50 letters and digits, unique in the world. Without one it is
     * `aks<cluster>acr` and a random suffix, kept for the registry's life.
     */
    name?: string | undefined;
    /** Name of the cluster that the registry is named after, where it has no name of its own. */
    clusterName: string;
    /** Service tier: `Basic` (default), `Standard` or `Premium`. */
    sku?: "Basic" | "Standard" | "Premium" | undefined;
    /** Azure region. Default: the provider's, else the resource group's. */
    location?: pulumi.Input<string> | undefined;
    /** Tags of the registry. */
    tags?: pulumi.Input<Record<string, pulumi.Input<string>>> | undefined;
}

/**
 * An Azure container registry without passwords: a new one has no admin user and no anonymous pull, and whoever pushes or
 * pulls needs a role on it. One that is there already is left as it is.
 */
export class ContainerRegistry extends pulumi.ComponentResource {
    /** Resource id, the scope of role assignments. */
    readonly registryId: pulumi.Output<string>;
    /** Name as Azure knows it. */
    readonly registryName: pulumi.Output<string>;
    /** Host that images are pushed to and pulled from. It can carry a hash, so it is read and never built from the name. */
    readonly loginServer: pulumi.Output<string>;

    constructor(name: string, args: ContainerRegistryArgs, opts?: pulumi.ComponentResourceOptions) {
        super("aks-acr:index:ContainerRegistry", name, {}, opts);

        const { registryId, registryName, loginServer } =
            "existing" in args ? args.existing : this.create(name, args);
        this.registryId = pulumi.output(registryId);
        this.registryName = pulumi.output(registryName);
        this.loginServer = pulumi.output(loginServer);
        this.registerOutputs({
            registryId: this.registryId,
            registryName: this.registryName,
            loginServer: this.loginServer,
        });
    }

    private create(name: string, args: NewRegistryArgs) {
        const registry = new Registry(
            name,
            {
                resourceGroupName: args.resourceGroupName,
                registryName: args.name ?? this.uniqueName(name, args.clusterName),
                sku: { name: args.sku ?? "Basic" },
                adminUserEnabled: false,
                anonymousPullEnabled: false,
                ...(args.location !== undefined && { location: args.location }),
                ...(args.tags !== undefined && { tags: args.tags }),
            },
            // A derived name is the registry's for life: a renamed cluster must not replace the images' home.
            {
                parent: this,
                ignoreChanges: args.name === undefined ? ["registryName"] : [],
                hooks: { onError: [explainRefusal(`${name}-refused`)] },
            },
        );
        return { registryId: registry.id, registryName: registry.name, loginServer: registry.loginServer };
    }

    private uniqueName(name: string, clusterName: string): pulumi.Output<string> {
        const suffix = new RandomString(
            `${name}-suffix`,
            { length: suffixLength, upper: false, special: false },
            { parent: this },
        );
        return suffix.result.apply((result) => derivedRegistryName(clusterName, result));
    }
}

const suffixLength = 6;

/**
 * `aks<cluster>acr<suffix>` in lowercase, without the characters that a registry name may not have, and cut
 * in the middle to the 50 that it may ("Resource naming restrictions", Microsoft.ContainerRegistry).
 */
export function derivedRegistryName(clusterName: string, suffix: string): string {
    const cluster = clusterName.toLowerCase().replace(/[^a-z0-9]/g, "");
    return `aks${cluster.slice(0, 50 - "aksacr".length - suffix.length)}acr${suffix}`;
}
