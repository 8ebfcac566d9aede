import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Agent, fetch } from "undici";
import { writePrivate } from "./certificates";
import { tokenUser } from "./registry-tokens";

/** What docker logs in to a registry with. */
export interface Credentials {
    username: string;
    password: string;
}

/** Docker's configuration, as far as logins go: `auth` is `<user>:<password>` in base64, by server ("docker login"). */
interface Configuration {
    auths?: Record<string, { auth: string }>;
}

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
    const url = `https://${loginServer}/oauth2/exchange`;
    const answer = await fetch(url, { method: "POST", body, dispatcher });
    if (!answer.ok)
        throw new Error(
            `Access to registry '${loginServer}' was denied. Response code: ${answer.status}. Please try running 'az login' again to refresh permissions.`,
        );
    const { refresh_token: password } = (await answer.json()) as { refresh_token: string };
    saveCredentials(directory, loginServer, { username: tokenUser, password });
}

/**
 * What docker would log in to a registry with, or undefined where it would not.
 *
 * @param directory of docker's configuration, what DOCKER_CONFIG names.
 * @param server host and port of the registry.
 */
export function credentialsFor(directory: string, server: string): Credentials | undefined {
    const login = Buffer.from(read(directory).auths?.[server]?.auth ?? "", "base64").toString();
    const [, username, password] = /^([^:]+):(.+)$/.exec(login) ?? [];
    return username && password ? { username, password } : undefined;
}

/** Keeps a login in docker's configuration, readable by its owner only, as `docker login` does. */
export function saveCredentials(directory: string, server: string, credentials: Credentials): void {
    const { auths, ...configuration } = read(directory);
    const auth = encoded(credentials);
    const file = JSON.stringify({ ...configuration, auths: { ...auths, [server]: { auth } } }, undefined, 2);
    writePrivate(fileIn(directory), file);
}

/** The header `Authorization` that carries credentials (RFC 7617). */
export const basic = (credentials: Credentials) => `Basic ${encoded(credentials)}`;

const encoded = ({ username, password }: Credentials) =>
    Buffer.from(`${username}:${password}`).toString("base64");
const fileIn = (directory: string) => join(directory, "config.json");

function read(directory: string): Configuration {
    return existsSync(fileIn(directory)) ? JSON.parse(readFileSync(fileIn(directory), "utf8")) : {};
}
