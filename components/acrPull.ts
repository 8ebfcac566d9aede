import { createHash } from "node:crypto";
import { RoleAssignment } from "@pulumi/azure-native/authorization/roleAssignment.js";
import * as pulumi from "@pulumi/pulumi";
import { explainRefusal } from "./errorHooks";

/** The built-in role AcrPull: pull images, nothing else ("Azure Container Registry roles and permissions"). */
export const acrPullRole = "7f951dda-4ed3-4680-a7ca-43fe172d538d";

/** What AcrPull needs. */
export interface AcrPullArgs {
    /** Resource id of the registry to pull from; any resource group or subscription. */
    registryId: pulumi.Input<string>;
    /** Object id (not client id, which Azure accepts in silence and never lets pull) of the identity that pulls. */
    principalId: pulumi.Input<string>;
}

/** What a caller sees of a granted permission. */
export interface PullAccess {
    /** Object id of the identity that may pull. */
    principalId: string;
    /** Resource id of the registry. */
    scope: string;
    /** Resource id of the role. */
    roleDefinitionId: string;
    /** `assigned`: this stack made the role assignment. */
    state: "assigned";
}

/**
 * Lets an identity, such as a cluster's kubelet identity, pull from a container registry: a role assignment of
 * AcrPull with a lasting name, so that a second stack or a lost state meets the same assignment.
 */
export class AcrPull extends pulumi.ComponentResource {
    /** Resource id of the role assignment. */
    readonly roleAssignmentId: pulumi.Output<string>;
    /** Who may pull what by which role; known once the assignment is made, so waiting for it is waiting for the permission. */
    readonly access: pulumi.Output<PullAccess>;

    constructor(name: string, args: AcrPullArgs, opts?: pulumi.ComponentResourceOptions) {
        super("aks-acr:index:AcrPull", name, {}, opts);

        const scope = pulumi.output(args.registryId);
        const principalId = pulumi.output(args.principalId);
        const roleDefinitionId = scope.apply((id) => roleDefinition(id, acrPullRole));
        const assignment = new RoleAssignment(
            name,
            {
                scope,
                principalId,
                // Says that it is not a person, and spares Azure the directory look-up that fails for a new identity.
                principalType: "ServicePrincipal",
                roleDefinitionId,
                roleAssignmentName: assignmentName(scope, principalId, acrPullRole),
            },
            { parent: this, hooks: { onError: [explainRefusal(`${name}-refused`)] } },
        );

        this.roleAssignmentId = assignment.id;
        this.access = pulumi
            .all([principalId, scope, roleDefinitionId, assignment.id])
            .apply(([principal, registry, role]) => ({
                principalId: principal,
                scope: registry,
                roleDefinitionId: role,
                state: "assigned" as const,
            }));
        this.registerOutputs({ roleAssignmentId: this.roleAssignmentId, access: this.access });
    }
}

/**
 * Resource id of a built-in role, in the subscription of the scope it is assigned at.
 *
 * @param scope resource id, such as a registry's.
 * @param role GUID of the role, such as {@link acrPullRole}.
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
