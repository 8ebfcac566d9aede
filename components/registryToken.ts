import type { RegistryPermissions } from "./acrPull";
import { UserError } from "./userError";

/** The user name that tells a registry that the password is one of its own tokens ("Authenticate with Azure Container Registry"). */
export const tokenUser = "00000000-0000-0000-0000-000000000000";

/** Whom a Microsoft Entra token must be for, to be exchanged at a registry. */
export const registryAudience = "https://containerregistry.azure.net";

/** The built-in roles that let push ("Azure Container Registry roles and permissions"). */
const pushRoles = { rbac: "AcrPush", abac: "Container Registry Repository Writer" };

/** Who asks for a token. */
export interface Caller {
    /** Id of the caller's tenant. */
    tenantId: string;
    /** Object id of the caller. */
    objectId: string;
}

/**
 * Exchanges a Microsoft Entra access token for a registry's refresh token, which docker takes as a password.
 * It lives for three hours and can do what the caller's roles on the registry allow.
 *
 * @param loginServer host of the registry.
 * @param accessToken token for {@link registryAudience}.
 * @param options.waits seconds before each further try: a new registry's name takes a while to reach every DNS server.
 * @param options.permissions the registry's mode. Default: `rbac`.
 * @throws UserError that says which role is missing, or that the registry cannot be reached.
 */
export async function exchangeForRegistryToken(
    loginServer: string,
    caller: Caller,
    accessToken: string,
    options: { waits?: readonly number[]; permissions?: RegistryPermissions | undefined } = {},
): Promise<string> {
    const { waits = [1, 2, 5, 10, 20], permissions = "rbac" } = options;
    const body = new URLSearchParams({
        grant_type: "access_token",
        service: loginServer,
        tenant: caller.tenantId,
        access_token: accessToken,
    });
    const exchange = () => fetch(`https://${loginServer}/oauth2/exchange`, { method: "POST", body });
    let reason = "";
    for (const wait of [0, ...waits]) {
        await new Promise((resolve) => setTimeout(resolve, wait * 1000));
        const answer = await exchange().catch((error: Error) => error);
        if (answer instanceof Error) {
            reason = String(answer.cause ?? answer.message);
            continue;
        }
        if (answer.ok) return ((await answer.json()) as { refresh_token: string }).refresh_token;
        if (answer.status === 401 || answer.status === 403)
            throw new UserError(refusal(loginServer, caller, answer.status, permissions));
        reason = `HTTP ${answer.status}`;
    }
    throw new UserError(
        `The registry ${loginServer} gives no token (${reason}). ` +
            "Check that this machine reaches it, then run `pulumi up` again.",
    );
}

function refusal(
    loginServer: string,
    { objectId }: Caller,
    status: number,
    permissions: RegistryPermissions,
): string {
    const scope = `$(az acr list --query "[?loginServer=='${loginServer}'].id" --output tsv)`;
    const command = `az role assignment create --assignee ${objectId} --role "${pushRoles[permissions]}" --scope ${scope}`;
    const abac =
        permissions === "rbac"
            ? ` A registry in ABAC mode ignores AcrPush, Contributor and Owner: if it is in that mode, set aks-acr:registry.permissions to abac and ask for ${pushRoles.abac}.`
            : "";
    return (
        `The registry ${loginServer} does not let you push (HTTP ${status}). Check that its network rules let you in, ` +
        `or ask its Owner to run: ${command}.${abac}`
    );
}
