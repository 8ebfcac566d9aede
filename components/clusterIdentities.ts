import { RoleAssignment } from "@pulumi/azure-native/authorization/roleAssignment.js";
import { UserAssignedIdentity } from "@pulumi/azure-native/managedidentity/userAssignedIdentity.js";
import type * as pulumi from "@pulumi/pulumi";
import { assignmentName, roleDefinition } from "./acrPull";
import { explainRefusal } from "./errorHooks";

/** The built-in role Managed Identity Operator: attach an identity to a resource. */
export const managedIdentityOperatorRole = "f1a07417-d97a-45cb-824c-7a7467783830";

/**
 * The identities that a cluster brings, its control plane's and its kubelet's, and the one's permission to use the other.
 *
 * @param placed where they are, and their tags at first.
 */
export function clusterIdentities(
    name: string,
    placed: { resourceGroupName: pulumi.Input<string> },
    parent: pulumi.Resource,
) {
    // An identity that is updated previews with an unknown principal, and so with its role assignments replaced.
    const lasting = { parent, ignoreChanges: ["tags"] };
    const controlPlane = new UserAssignedIdentity(`${name}-control-plane`, placed, lasting);
    const kubelet = new UserAssignedIdentity(`${name}-kubelet`, placed, lasting);
    const role = managedIdentityOperatorRole;
    // AKS asks for this before it creates the cluster ("Use a pre-created kubelet managed identity").
    const grant = new RoleAssignment(
        `${name}-uses-kubelet`,
        {
            scope: kubelet.id,
            principalId: controlPlane.principalId,
            principalType: "ServicePrincipal",
            roleDefinitionId: kubelet.id.apply((id) => roleDefinition(id, role)),
            roleAssignmentName: assignmentName(kubelet.id, controlPlane.principalId, role),
        },
        { parent, hooks: { onError: [explainRefusal(`${name}-uses-kubelet-refused`)] } },
    );
    const { clientId, principalId: objectId } = kubelet;
    const properties = {
        identity: { type: "UserAssigned" as const, userAssignedIdentities: [controlPlane.id] },
        identityProfile: { kubeletidentity: { resourceId: kubelet.id, clientId, objectId } },
    };
    return { properties, grant, kubeletPrincipalId: objectId };
}
