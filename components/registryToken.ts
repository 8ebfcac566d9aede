import * as pulumi from "@pulumi/pulumi";

/** The user name that tells a registry that the password is one of its own tokens ("Authenticate with Azure Container Registry"). */
export const tokenUser = "00000000-0000-0000-0000-000000000000";

/**
 * Exchanges a Microsoft Entra access token for a registry's refresh token, which docker takes as a password.
 * It lives for three hours and can do what the caller's roles on the registry allow.
 *
 * @param loginServer host of the registry.
 * @param tenant id of the caller's tenant.
 * @param accessToken token for `https://containerregistry.azure.net`.
 * @param waits seconds before each further try: a new registry's name takes a while to reach every DNS server.
 * @throws pulumi.RunError that says which role is missing where the registry refuses, or that it cannot be reached.
 */
export async function exchangeForRegistryToken(
    loginServer: string,
    tenant: string,
    accessToken: string,
    waits: readonly number[] = [1, 2, 5, 10, 20],
): Promise<string> {
    const body = new URLSearchParams({
        grant_type: "access_token",
        service: loginServer,
        tenant,
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
        if (answer.status === 401 || answer.status === 403) {
            throw new pulumi.RunError(
                `The registry ${loginServer} does not let you push (HTTP ${answer.status}). ` +
                    "Ask its Owner for the role AcrPush on it, or check that its network rules let you in.",
            );
        }
        reason = `HTTP ${answer.status}`;
    }
    throw new pulumi.RunError(
        `The registry ${loginServer} gives no token (${reason}). ` +
            "Check that this machine reaches it, then run `pulumi up` again.",
    );
}
