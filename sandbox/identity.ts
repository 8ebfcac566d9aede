import type { KeyObject } from "node:crypto";
import * as crypto from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { writePrivate } from "./certificates";

/** A user or managed identity of a tenant. */
export interface Principal {
    objectId: string;
    /** Application (client) id; left out for users. */
    clientId?: string;
    tenantId: string;
}

/** Issues and checks the tokens that Microsoft Entra ID would. */
export interface Identity {
    /** An access token for the audience, e.g. `https://containerregistry.azure.net`, valid for one hour. */
    tokenFor(principal: Principal, audience: string): string;
    /** Whom the token was issued to, and for which audience. Throws if it is forged, malformed or expired. */
    verify(token: string): Principal & { audience: string };
}

/** The claims of a JSON Web Token (RFC 7519); times in seconds since 1970. */
export type Claims = Record<string, unknown>;

const lifetime = 60 * 60;

/** Opens the issuer whose RS256 key is kept in the file (mode 0600); the key is made on first use. */
export function openIdentity(keyFile: string): Identity {
    if (!existsSync(keyFile)) {
        const { privateKey } = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
        writePrivate(keyFile, privateKey.export({ type: "pkcs8", format: "pem" }).toString());
    }
    const key = crypto.createPrivateKey(readFileSync(keyFile));
    const publicKey = crypto.createPublicKey(key);
    return {
        tokenFor({ objectId, clientId, tenantId }, audience) {
            const iss = `https://sts.windows.net/${tenantId}/`;
            const subject = {
                oid: objectId,
                sub: objectId,
                tid: tenantId,
                ...(clientId && { appid: clientId }),
            };
            return signToken({ iss, aud: audience, ver: "1.0", ...subject }, lifetime, key);
        },
        verify(token) {
            const { oid, appid, tid, aud } = readToken(token, publicKey) as Record<string, string>;
            if (!oid || !tid || !aud) throw new Error("the token names no principal");
            return { objectId: oid, tenantId: tid, audience: aud, ...(appid && { clientId: appid }) };
        },
    };
}

/** Signs the claims as an RS256 token that is valid from now on for so many seconds. */
export function signToken(claims: Claims, seconds: number, key: KeyObject, header: Claims = {}): string {
    const now = Math.floor(Date.now() / 1000);
    const times = { jti: crypto.randomUUID(), iat: now, nbf: now, exp: now + seconds };
    const encode = (part: Claims) => Buffer.from(JSON.stringify(part)).toString("base64url");
    const content = `${encode({ typ: "JWT", alg: "RS256", ...header })}.${encode({ ...times, ...claims })}`;
    return `${content}.${crypto.sign("sha256", Buffer.from(content), key).toString("base64url")}`;
}

/** The claims of an RS256 token. Throws unless this key signed it and it is valid now. */
export function readToken(token: string, key: KeyObject): Claims {
    const [header = "", body = "", signature = "", ...rest] = token.split(".");
    const content = Buffer.from(`${header}.${body}`);
    const signed = crypto.verify("sha256", content, key, Buffer.from(signature, "base64url"));
    if (!signed || rest.length > 0) throw new Error("the token was not issued here");
    const claims = JSON.parse(Buffer.from(body, "base64url").toString());
    const now = Date.now() / 1000;
    if (!(claims.nbf <= now && now < claims.exp)) throw new Error("the token has expired");
    return claims;
}

/**
 * Serves the token endpoint of the instance metadata service (documentation page "How to use managed
 * identities on an Azure VM to acquire an access token"). Port 0, the default, is any free one; `clients` are the
 * addresses that may ask, by default all.
 *
 * @param identityOf the identity attached to those machines, if it has this client id or none is given.
 */
export async function serveIdentityEndpoint(
    { address, port = 0, clients }: { address: string; port?: number; clients?: string[] },
    identity: Identity,
    identityOf: (clientId: string | undefined) => Principal | undefined,
): Promise<{ url: string; stop(): void }> {
    const path = "/metadata/identity/oauth2/token";
    const server = createServer(({ method, url = "", headers, socket }, response) => {
        const query = new URLSearchParams(url.split("?")[1]);
        const answer = (status: number, body: object) =>
            response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
        const refuse = (error_description: string, status = 400) =>
            answer(status, { error: "invalid_request", error_description });
        if (clients && !clients.includes(socket.remoteAddress ?? "")) return refuse("Forbidden", 403);
        if (method !== "GET" || url.split("?")[0] !== path) return refuse("Not found", 404);
        // Whoever tricks a server into this request can seldom set the one header and avoid the other.
        if (`${headers.metadata}`.toLowerCase() !== "true" || headers["x-forwarded-for"])
            return refuse("Required metadata header not specified");
        const missing = ["api-version", "resource"].find((name) => !query.get(name));
        if (missing) return refuse(`Required query variable '${missing}' is missing`);
        const principal = identityOf(query.get("client_id") ?? undefined);
        if (!principal) return refuse("Identity not found");
        const resource = `${query.get("resource")}`;
        const now = Math.floor(Date.now() / 1000);
        return answer(200, {
            access_token: identity.tokenFor(principal, resource),
            client_id: principal.clientId,
            expires_in: `${lifetime}`,
            expires_on: `${now + lifetime}`,
            resource,
            token_type: "Bearer",
        });
    });
    await once(server.listen(port, address), "listening");
    return {
        url: `http://${address}:${(server.address() as AddressInfo).port}${path}`,
        stop() {
            server.close();
            server.closeAllConnections();
        },
    };
}
