import * as pulumi from "@pulumi/pulumi";

/** Seconds to wait before each further try while a new role assignment reaches all of Azure; up to 10 minutes in all. */
const propagationWaits = [5, 10, 20, ...Array.from({ length: 19 }, () => 30)];

/**
 * Repeats an operation that AKS refuses with `CustomKubeletIdentityMissingPermissionError`: the control plane's
 * role on the kubelet identity exists, but is not yet seen everywhere. Azure gives that up to 10 minutes
 * ("Troubleshoot Azure RBAC"), and azure-native does not repeat a 400 by itself.
 *
 * @param name unique name of the hook in the stack.
 * @param waits seconds before each further try.
 */
export function retryWhilePropagating(
    name: string,
    waits: readonly number[] = propagationWaits,
): pulumi.ErrorHook {
    return new pulumi.ErrorHook(name, async ({ errors }) => {
        if (!errors[0]?.includes("CustomKubeletIdentityMissingPermissionError"))
            return explain(errors[0] ?? "");
        const wait = waits[errors.length - 1];
        if (wait === undefined) {
            const minutes = Math.round(waits.reduce((sum, each) => sum + each, 0) / 60);
            await pulumi.log.error(
                `The control plane's identity still may not use the kubelet identity after ${minutes} minutes. ` +
                    "Check that its role assignment Managed Identity Operator on the kubelet identity exists, " +
                    "then run `pulumi up` again: it continues where it stopped.",
            );
            return false;
        }
        await pulumi.log.info(
            "Azure has not yet taken in that the control plane may use the kubelet identity; " +
                `try ${errors.length + 1} of ${waits.length + 1} in ${wait} s.`,
        );
        await new Promise((resolve) => setTimeout(resolve, wait * 1000));
        return true;
    });
}

/**
 * Turns Azure's refusal of an operation into what a person can do about it; the operation still fails.
 *
 * @param name unique name of the hook in the stack.
 */
export function explainRefusal(name: string): pulumi.ErrorHook {
    return new pulumi.ErrorHook(name, ({ errors }) => explain(errors[0] ?? ""));
}

/**
 * Explains a push that the registry refused; as {@link explainRefusal}.
 *
 * @param name unique name of the hook in the stack.
 * @param login how docker is logged in: by the caller's Azure login, or as it was before.
 */
export function explainPush(name: string, login: "azure" | "docker"): pulumi.ErrorHook {
    return new pulumi.ErrorHook(name, async ({ errors: [error = ""] }) => {
        if (!/unauthorized|denied|no basic auth/i.test(error)) return false;
        const reason =
            login === "docker"
                ? "Docker is not logged in there: run `az acr login --name <registry>`, or remove aks-acr:image.login to push by your Azure login."
                : "You may pull from it, but not push: ask its Owner for AcrPush on it, in ABAC mode for Container Registry Repository Writer.";
        await pulumi.log.error(`The registry does not let you push. ${reason}`);
        return false;
    });
}

/**
 * Explains pods that may not pull their image; as {@link explainRefusal}.
 *
 * @param name unique name of the hook in the stack.
 */
export function explainPull(name: string): pulumi.ErrorHook {
    return new pulumi.ErrorHook(name, async ({ errors: [error = ""] }) => {
        if (!/401 Unauthorized|authentication required/i.test(error)) return false;
        await pulumi.log.error(
            "The nodes may not pull the image (401 Unauthorized). A new role assignment takes Azure up to 10 minutes; with " +
                "aks-acr:roleAssignments external, somebody has to run pullAccess.command. Where the role is there and this " +
                "stays, the registry ignores AcrPull, as registries in ABAC mode do: check it with `az acr show --name " +
                "<registry> --query roleAssignmentMode`, and set aks-acr:registry.permissions to abac. Pods start by " +
                "themselves once they may pull.",
        );
        return false;
    });
}

async function explain(error: string): Promise<false> {
    const explanation = explanationOf(error);
    // Else the update could end before it is heard.
    if (explanation) await pulumi.log.error(explanation);
    return false;
}

/**
 * What to do about one of Azure's errors, or undefined for one that says that itself.
 *
 * @param error the provider's message, which quotes Azure's ("Troubleshoot Azure RBAC").
 */
export function explanationOf(error: string): string | undefined {
    const present = /cannot create already existing resource '([^']+)'/.exec(error)?.[1];
    const type = /\/(registries|managedClusters|roleAssignments)\/[^/]+$/i.exec(present ?? "")?.[1];
    if (error.includes("RoleAssignmentExists") || type === "roleAssignments") {
        const id = /existing role assignment is ([\da-f]{32})/i.exec(error)?.[1] ?? present;
        return (
            `This permission was already granted by hand or by another stack${id ? ` (role assignment ${id})` : ""}. ` +
            "Leave it as it is with `pulumi config set aks-acr:roleAssignments external`, or take it over with `pulumi import`."
        );
    }
    if (type) {
        const key = type === "registries" ? "registry" : "cluster";
        return (
            `${present} is there already. Set aks-acr:${key}.id to that id to use it as it is, or choose another ${key}.create.name; ` +
            "if an update of this stack was killed while it made that, docs/state.md says how to go on."
        );
    }
    const refused = /perform action '([^']+)' over scope '([^']+)'/.exec(error);
    if (!error.includes("AuthorizationFailed") || !refused) return undefined;
    const [, action = "", scope = ""] = refused;
    const who = /client '([^']*)' with object id '([^']*)'/.exec(error);
    const caller = who ? `${who[1]} (object id ${who[2]})` : "The signed-in caller";
    if (!action.startsWith("Microsoft.Authorization/roleAssignments/")) {
        return `${caller} lacks the permission ${action} on ${scope}. An Owner of it can give you a role that has it.`;
    }
    const target = scope.replace(/\/providers\/Microsoft\.Authorization\/roleAssignments\/[^/]+$/i, "");
    return (
        `${caller} may not assign roles on ${target}: the permission ${action} is missing. ` +
        "An Owner, User Access Administrator or Role Based Access Control Administrator of that scope can run " +
        "`pulumi up` for you, or give you the last of these roles there: " +
        `az role assignment create --role "Role Based Access Control Administrator" --assignee ${who?.[2] ?? "<your object id>"} ` +
        `--scope ${target}. Or do without: \`pulumi config set aks-acr:roleAssignments external\` makes everything else, and ` +
        "puts the one command that they run into the output pullAccess.command."
    );
}
