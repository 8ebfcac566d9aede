import { createPrivateKey, createPublicKey, randomUUID, X509Certificate } from "node:crypto";
import type { Certificate } from "./certificates";
import { type Claims, type Identity, readToken, signToken } from "./identity";

const actions = ["pull", "push"] as const;
/** What a role on a registry lets its holder do with repositories; nobody deletes here. */
export type RegistryAction = (typeof actions)[number];

/** What the ARM model knows of permissions on registries, asked anew for every token. */
export interface RegistryAccess {
    permits(principalId: string, registryId: string, action: RegistryAction): boolean;
    /** The registry's roleAssignmentMode, e.g. `LegacyRegistryPermissions`; a change voids refresh tokens. */
    mode(registryId: string): string;
}

/** One registry, as far as its tokens go. */
export interface TokenIssuer {
    /** ARM resource id of the registry. */
    id: string;
    loginServer: string;
    /** Signs the tokens; the registry's process trusts this certificate alone. */
    signing: Certificate;
    identity: Pick<Identity, "verify">;
    access: RegistryAccess;
}

/** The `iss` of every token of a registry. */
export const issuerName = "Azure Container Registry";
/** The user name that marks a password as a refresh token. */
export const tokenUser = "00000000-0000-0000-0000-000000000000";
/** Seconds; documentation page "Registry authentication options", and the sample in Azure/acr "AAD-OAuth". */
const lifetimes = { refresh_token: 3 * 60 * 60, access_token: 75 * 60 };
/** Whom a Microsoft Entra token must be for, to be exchanged. */
const audience = "https://containerregistry.azure.net";

/** A refusal; its code is one of the OCI distribution specification's. */
export class Refusal extends Error {
    constructor(
        readonly status: number,
        readonly code: string,
        message: string,
    ) {
        super(message);
    }
}

/** Azure's answer of 401, with a correlation id of its own. */
export function unauthorized(): Refusal {
    const link = "https://aka.ms/acr/authorization";
    const message = `authentication required, visit ${link} for more information. CorrelationId: ${randomUUID()}`;
    return new Refusal(401, "UNAUTHORIZED", message);
}

/** What a registry's token endpoints answer to a form (Azure/acr, "AAD-OAuth"); each throws a Refusal. */
export function tokenEndpoints({ id, loginServer, signing, identity, access }: TokenIssuer) {
    const key = createPrivateKey(signing.key);
    const publicKey = createPublicKey(key);
    const header = { x5c: [new X509Certificate(signing.certificate).raw.toString("base64")] };

    const issue = (grant: keyof typeof lifetimes, claims: Claims) => {
        const fixed = { iss: issuerName, aud: loginServer, version: "1.0", grant_type: grant };
        return { [grant]: signToken({ ...fixed, ...claims }, lifetimes[grant], key, header) };
    };
    const permitted = (principalId: string) => {
        const held: string[] = actions.filter((action) => access.permits(principalId, id, action));
        if (held.length === 0) throw unauthorized();
        return held;
    };
    /** What is permitted of a scope such as `repository:nginx:pull,push`. */
    const granted = (scope: string, held: string[]) => {
        const [, name, asked = ""] = /^repository:(.+):([^:]*)$/.exec(scope) ?? [];
        const kept = held.filter((action) => asked.split(",").includes(action));
        return name && kept.length > 0 ? [{ type: "repository", name, actions: kept }] : [];
    };
    const requireService = (form: URLSearchParams) => {
        if (form.get("service") !== loginServer) throw unauthorized();
    };
    const accessToken = (form: URLSearchParams, refreshToken: string) => {
        requireService(form);
        const { grant_type, mode, aud, sub, tenant } = verified(() => readToken(refreshToken, publicKey));
        const isRefreshToken = grant_type === "refresh_token" && aud === loginServer;
        if (!isRefreshToken || mode !== access.mode(id)) throw unauthorized();
        const held = permitted(`${sub}`);
        const scopes = form.getAll("scope").flatMap((scope) => scope.split(" "));
        return issue("access_token", { sub, tenant, access: scopes.flatMap((each) => granted(each, held)) });
    };

    return {
        /** POST /oauth2/exchange: a Microsoft Entra token for a refresh token, bound to the mode. */
        exchange(form: URLSearchParams) {
            requireGrant(form, ["access_token", "access_token_refresh_token"]);
            requireService(form);
            const caller = verified(() => identity.verify(form.get("access_token") ?? ""));
            const isSameTenant = (form.get("tenant") ?? caller.tenantId) === caller.tenantId;
            if (caller.audience !== audience || !isSameTenant) throw unauthorized();
            permitted(caller.objectId);
            const holder = { sub: caller.objectId, tenant: caller.tenantId };
            return issue("refresh_token", { ...holder, mode: access.mode(id) });
        },
        /** POST /oauth2/token: a refresh token for an access token with what is permitted by now. */
        token(form: URLSearchParams) {
            requireGrant(form, ["refresh_token"]);
            return accessToken(form, form.get("refresh_token") ?? "");
        },
        /** GET /oauth2/token: the same, with the refresh token as password in the Authorization header. */
        tokenByPassword(query: URLSearchParams, authorization = "") {
            const basic = /^Basic (.*)$/i.exec(authorization)?.[1] ?? "";
            const [user, password = ""] = Buffer.from(basic, "base64").toString().split(":");
            if (user !== tokenUser) throw unauthorized();
            return accessToken(query, password);
        },
    };
}

/** ACR answers 400 to grants it lacks, such as `password`, and containerd then falls back to GET. */
function requireGrant(form: URLSearchParams, supported: string[]): void {
    if (supported.includes(form.get("grant_type") ?? "")) return;
    throw new Refusal(400, "UNSUPPORTED", `grant_type must be ${supported.join(" or ")}`);
}

function verified<T>(read: () => T): T {
    try {
        return read();
    } catch {
        throw unauthorized();
    }
}
