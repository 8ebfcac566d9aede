import { Agent, fetch } from "undici";
import { saveCredentials } from "./docker-configuration";

/** The user name that tells a registry that the password is one of its own tokens ("Authenticate with Azure Container Registry"). */
const username = "00000000-0000-0000-0000-000000000000";

/** A login that `az acr login` makes. */
export interface RegistryLogin {
    loginServer: string;
    /** Microsoft Entra token of who logs in, for registries. */
    accessToken: string;
    tenantId: string;
    /** PEM of the authority that the registry's certificate comes from. */
    authority: string;
    /** Directory of docker's configuration, where the login is kept. */
    directory: string;
}

/**
 * Exchanges a token at a registry for one of its own, which docker then logs in with.
 *
 * @throws Error in the Azure CLI's words where the registry refuses.
 */
export async function logInToRegistry(login: RegistryLogin): Promise<void> {
    const { loginServer, accessToken, tenantId, authority, directory } = login;
    const body = new URLSearchParams({
        grant_type: "access_token",
        service: loginServer,
        tenant: tenantId,
        access_token: accessToken,
    });
    const dispatcher = new Agent({ connect: { ca: authority } });
    const answer = await fetch(`https://${loginServer}/oauth2/exchange`, {
        method: "POST",
        body,
        dispatcher,
    });
    if (!answer.ok)
        throw new Error(
            `Access to registry '${loginServer}' was denied. Response code: ${answer.status}. Please try running 'az login' again to refresh permissions.`,
        );
    const { refresh_token: password } = (await answer.json()) as { refresh_token: string };
    saveCredentials(directory, loginServer, { username, password });
}
