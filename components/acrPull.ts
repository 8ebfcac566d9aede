import { createHash } from "node:crypto";
import { RoleAssignment } from "@pulumi/azure-native/authorization/roleAssignment.js";
import * as pulumi from "@pulumi/pulumi";
import { explainRefusal } from "./errorHooks";

/**
 * The built-in roles that let pull images, and nothing else: AcrPull, and for registries in ABAC mode, which do not heed
 * that, Container Registry Repository Reader ("Microsoft Entra attribute-based access control for repositories").
 */
export const pullRoles = {
    rbac: { name: "AcrPull", id: "7f951dda-4ed3-4680-a7ca-43fe172d538d" },
    abac: { name: "Container Registry Repository Reader", id: "b93aa761-3e63-49ed-ac28-beffa264f7ac" },
} as const;

/** How a registry grants permissions: by roles on the registry, or by roles that may be limited to repositories. */
export type RegistryPermissions = keyof typeof pullRoles;

/** What AcrPull needs. */
export interface AcrPullArgs {
    /** Resource id of the registry to pull from; any resource group or subscription of the tenant. */
    registryId: pulumi.Input<string>;
    /** Object id (not client id, which Azure accepts in silence and never lets pull) of the identity that pulls. */
    principalId: pulumi.Input<string>;
    /** The registry's mode, which picks the role. Default: `rbac`. */
    permissions?: RegistryPermissions | undefined;
    /** `external`: somebody else assigns the role; nothing is made but the command for that. Default: `create`. */
    roleAssignments?: "create" | "external" | undefined;
}

/** What a caller sees of a permission. */
export interface PullAccess {
    /** Object id of the identity that may pull. */
    principalId: string;
    /** Resource id of the registry. */
    scope: string;
    /** Resource id of the role. */
    roleDefinitionId: string;
    /** `assigned`: this stack makes the role assignment. `external`: somebody runs `command`, once. */
    state: "assigned" | "external";
    /** The Azure CLI's command that assigns the role; running it again does no harm. */
    command?: string;
}

/**
 * Lets an identity, such as a cluster's kubelet identity, pull from a container registry: a role assignment with a lasting
 * name, so that a second stack or a lost state meets the same assignment.
 */
export class AcrPull extends pulumi.ComponentResource {
    /** Resource id of the role assignment; undefined where that is somebody else's. */
    readonly roleAssignmentId: pulumi.Output<string | undefined>;
    /** Who may pull what by which role. */
    readonly access: pulumi.Output<PullAccess>;

    constructor(name: string, args: AcrPullArgs, opts?: pulumi.ComponentResourceOptions) {
        super("aks-acr:index:AcrPull", name, {}, opts);

        const role = pullRoles[args.permissions ?? "rbac"];
        const scope = pulumi.output(args.registryId);
        const principalId = pulumi.output(args.principalId);
        const external = args.roleAssignments === "external";
        const assignment = external
            ? undefined
            : new RoleAssignment(
                  name,
                  {
                      scope,
                      principalId,
                      // Says that it is not a person, and spares Azure the directory look-up that fails for a new identity.
                      principalType: "ServicePrincipal",
                      roleDefinitionId: scope.apply((id) => roleDefinition(id, role.id)),
                      roleAssignmentName: assignmentName(scope, principalId, role.id),
                  },
                  { parent: this, hooks: { onError: [explainRefusal(`${name}-refused`)] } },
              );

        this.roleAssignmentId = pulumi.output(assignment?.id);
        this.access = pulumi.all([principalId, scope]).apply(([principal, registry]) => ({
            principalId: principal,
            scope: registry,
            roleDefinitionId: roleDefinition(registry, role.id),
            ...(external
                ? { state: "external" as const, command: assignCommand(registry, principal, role.name) }
                : { state: "assigned" as const }),
        }));
        this.registerOutputs({ roleAssignmentId: this.roleAssignmentId, access: this.access });
    }
}

/** The Azure CLI's command that assigns a role to an identity. */
export function assignCommand(scope: string, principalId: string, role: string): string {
    return (
        `az role assignment create --assignee-object-id ${principalId} --assignee-principal-type ServicePrincipal ` +
        `--role "${role}" --scope ${scope}`
    );
}

/**
 * Resource id of a built-in role, in the subscription of the scope it is assigned at.
 *
 * @param scope resource id, such as a registry's.
 * @param role GUID of the role, such as one of {@link pullRoles}.
 */
export function roleDefinition(scope: string, role: string): string {
    const subscription = /^\/subscriptions\/[^/]+/i.exec(scope)?.[0] ?? "";
    return `${subscription}/providers/Microsoft.Authorization/roleDefinitions/${role}`;
}

/** The lasting name of a role assignment: the same scope, principal and role give the same GUID. */
export function assignmentName(
    scope: pulumi.Input<string>,
    principalId: pulumi.Input<string>,
    role: string,
): pulumi.Output<string> {
    return pulumi
        .all([scope, principalId])
        .apply(([at, who]) => uuidV5(`${at}|${who}|${role}`.toLowerCase()));
}

/** A name-based UUID (RFC 9562, version 5) in the URL namespace. */
export function uuidV5(name: string): string {
    const urlNamespace = Buffer.from("6ba7b8119dad11d180b400c04fd430c8", "hex");
    const bytes = createHash("sha1").update(urlNamespace).update(name).digest().subarray(0, 16);
    bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x50, 6);
    bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
    return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
