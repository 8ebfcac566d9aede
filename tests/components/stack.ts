import * as pulumi from "@pulumi/pulumi";
import { AzureMocks } from "../../sandbox/azure/mocks";
import type { Properties } from "../../sandbox/azure/model";

/** The value of an output, or of anything that holds outputs, once all is known. */
export function resolved<T>(value: pulumi.Input<T>): Promise<pulumi.Unwrap<T>> {
    return new Promise((resolve) => {
        pulumi.output(value).apply((known) => resolve(known as pulumi.Unwrap<T>));
    });
}

/** Fresh mocks over the model of Azure, set for the stack `dev`. */
export async function mockedStack(
    options?: ConstructorParameters<typeof AzureMocks>[0],
    { preview = false } = {},
): Promise<AzureMocks> {
    const mocks = new AzureMocks(options);
    const { call } = mocks;
    // The SDK knows lists by Jest's own Array, which what the model clones is none of.
    mocks.call = async (args) =>
        JSON.parse(
            JSON.stringify(
                await call.call(mocks, args).catch((error: Error) => {
                    // Where the SDK looks for the message, as gRPC has it.
                    throw Object.assign(error, { details: error.message });
                }),
            ),
        );
    await pulumi.runtime.setMocks(mocks, "aks-acr", "dev", preview, "organization");
    // The SDK's mocks do not know error hooks yet; what a hook does is tested by itself.
    const monitor = pulumi.runtime.getMonitor() as unknown as { registerErrorHook: unknown };
    monitor.registerErrorHook = (_: unknown, done: (error: null) => void) => done(null);
    return mocks;
}

/** A resource group in Azure for the component under test. */
export async function withGroup(mocks: AzureMocks): Promise<string> {
    const { azure } = mocks;
    await azure.put(`/subscriptions/${azure.subscriptionId}/resourceGroups/team`, { location: "westeurope" });
    return "team";
}

/** A cluster `web` and a registry `teamimages` that the team has already, in the group `team`. */
export async function existingTeam(
    mocks: AzureMocks,
    bodies: { cluster?: Properties; registry?: Properties } = {},
) {
    const { azure } = mocks;
    const group = `/subscriptions/${azure.subscriptionId}/resourceGroups/${await withGroup(mocks)}`;
    const registryId = `${group}/providers/Microsoft.ContainerRegistry/registries/teamimages`;
    const clusterId = `${group}/providers/Microsoft.ContainerService/managedClusters/web`;
    const location = "westeurope";
    await azure.put(registryId, { location, sku: { name: "Basic" }, ...bodies.registry });
    const { identityProfile } = await azure.put(clusterId, {
        location,
        dnsPrefix: "web",
        identity: { type: "SystemAssigned" },
        agentPoolProfiles: [{ name: "system", mode: "System", count: 2, vmSize: "Standard_D4s_v5" }],
        ...bodies.cluster,
    });
    return { registryId, clusterId, kubeletPrincipalId: identityProfile?.kubeletidentity.objectId as string };
}

/** Inputs of the one resource of a type (and name). */
export function inputsOf(mocks: AzureMocks, type: string, name?: string) {
    const found = mocks.of(type, name);
    if (found.length !== 1) throw new Error(`${found.length} resources of type ${type}`);
    return found[0]?.inputs ?? {};
}

/** Resolves when everything that the program has registered so far is done. */
export function settled(): Promise<void> {
    // Exported by the SDK, but not in its typings.
    return (pulumi.runtime as unknown as { waitForRPCs(): Promise<void> }).waitForRPCs();
}
