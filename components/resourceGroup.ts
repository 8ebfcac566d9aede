import { ResourceGroup } from "@pulumi/azure-native/resources/resourceGroup.js";
import * as pulumi from "@pulumi/pulumi";
import { explainRefusal } from "./errorHooks";

/**
 * Name of the resource group for the stack: the existing one, which is never changed, or a new one.
 *
 * @param name logical name, and the beginning of a new group's name; for life, since a new group is a new everything.
 * @param existing name of an existing group; undefined creates one.
 * @param options tags of a new group, and whether Pulumi may delete it.
 * @param formerly logical name that the group may have had in an earlier version of the program.
 */
export function resourceGroupName(
    name: string,
    existing: string | undefined,
    formerly: string,
    { tags, protect = false }: { tags?: Record<string, string> | undefined; protect?: boolean } = {},
): pulumi.Output<string> {
    if (existing !== undefined) return pulumi.output(existing);
    const hooks = { onError: [explainRefusal(`${name}-refused`)] };
    const options = { aliases: [{ name: formerly }], hooks, protect };
    return new ResourceGroup(name, tags ? { tags } : {}, options).name;
}
