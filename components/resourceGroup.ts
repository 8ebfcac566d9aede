import { getResourceGroupOutput } from "@pulumi/azure-native/resources/getResourceGroup.js";
import { ResourceGroup } from "@pulumi/azure-native/resources/resourceGroup.js";
import type * as pulumi from "@pulumi/pulumi";
import { explainRefusal } from "./errorHooks";

/**
 * Name of the resource group for the stack: the existing one, which is looked up and never changed, or a new one.
 *
 * @param name logical name, and the beginning of a new group's name.
 * @param existing name of an existing group; undefined creates one.
 */
export function resourceGroupName(name: string, existing: string | undefined): pulumi.Output<string> {
    if (existing !== undefined) return getResourceGroupOutput({ resourceGroupName: existing }).name;
    return new ResourceGroup(name, {}, { hooks: { onError: [explainRefusal(`${name}-refused`)] } }).name;
}
