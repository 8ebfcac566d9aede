import * as crypto from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { writePrivate } from "./certificates";

/** A user or managed identity of a tenant. */
export interface Principal {
    objectId: string;
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
        tokenFor({ objectId, tenantId }, audience) {
            const iss = `https://sts.windows.net/${tenantId}/`;
            const subject = { oid: objectId, sub: objectId, tid: tenantId };
            return signToken({ iss, aud: audience, ver: "1.0", ...subject }, lifetime, key);
        },
        verify(token) {
            const { oid, tid, aud } = readToken(token, publicKey) as Record<string, string>;
            if (!oid || !tid || !aud) throw new Error("the token names no principal");
            return { objectId: oid, tenantId: tid, audience: aud };
        },
    };
}

/** Signs the claims as an RS256 token that is valid from now on for so many seconds. */
export function signToken(
    claims: Claims,
    seconds: number,
    key: crypto.KeyObject,
    header: Claims = {},
): string {
    const now = Math.floor(Date.now() / 1000);
    const times = { jti: crypto.randomUUID(), iat: now, nbf: now, exp: now + seconds };
    const encode = (part: Claims) => Buffer.from(JSON.stringify(part)).toString("base64url");
    const content = `${encode({ typ: "JWT", alg: "RS256", ...header })}.${encode({ ...times, ...claims })}`;
    return `${content}.${crypto.sign("sha256", Buffer.from(content), key).toString("base64url")}`;
}

/** The claims of an RS256 token. Throws unless this key signed it and it is valid now. */
export function readToken(token: string, key: crypto.KeyObject): Claims {
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
 * identities on an Azure VM to acquire an access token") on a free port. `clients` are the addresses that may ask.
 *
 * @param attached the identity attached to those machines, the only one that they get tokens of.
 */
export async function serveIdentityEndpoint(
    { address, clients }: { address: string; clients: string[] },
    identity: Identity,
    attached: () => Principal | undefined,
): Promise<{ url: string; stop(): void }> {
    const server = createServer(({ url = "", headers, socket }, response) => {
        const answer = (status: number, body: object) =>
            response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
        const refuse = (status: number, error_description: string) =>
            answer(status, { error: "invalid_request", error_description });
        if (!clients.includes(socket.remoteAddress ?? "")) return refuse(403, "Forbidden");
        // Whoever tricks a server into this request can seldom set the one header and avoid the other.
        if (headers.metadata !== "true" || headers["x-forwarded-for"])
            return refuse(400, "Required metadata header not specified");
        const query = new URLSearchParams(url.split("?")[1]);
        const principal = attached();
        if (!principal) return refuse(400, "Identity not found");
        const access_token = identity.tokenFor(principal, query.get("resource") ?? "");
        return answer(200, { access_token, expires_in: `${lifetime}`, token_type: "Bearer" });
    });
    await once(server.listen(0, address), "listening");
    return {
        url: `http://${address}:${(server.address() as AddressInfo).port}/metadata/identity/oauth2/token`,
        stop() {
            server.close();
            server.closeAllConnections();
        },
    };
}
