import { spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { connect, type TLSSocket } from "node:tls";
import { type Certificate, certificateIn } from "../../sandbox/certificates";
import { openIdentity, type Principal, readToken, serveIdentityEndpoint } from "../../sandbox/identity";
import { registryPorts, startRegistry } from "../../sandbox/registry";
import { Refusal, type RegistryAction, tokenEndpoints } from "../../sandbox/registry-tokens";

const directory = mkdtempSync(join(tmpdir(), "aks-acr-registry-"));
afterAll(() => rmSync(directory, { recursive: true }));

let authority: Certificate;
let signing: Certificate;
beforeAll(async () => {
    authority = await certificateIn(directory, "ca", { commonName: "authority", use: "authority" });
    signing = await certificateIn(directory, "tokens", { commonName: "acr1", use: "tokens" }, authority);
});
const identity = openIdentity(join(directory, "identity.key"));
const tenantId = "5d8d3a3c-0000-4000-8000-000000000001";
const registryId = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/acr1";
const loginServer = "127.0.0.1:20000";
const registryAudience = "https://containerregistry.azure.net";
const nullGuid = "00000000-0000-0000-0000-000000000000";

/** Endpoints of a registry on which `reader` may pull and `writer` pull and push; both can be changed. */
function aRegistry(server = loginServer) {
    const roles: Record<string, RegistryAction[]> = { reader: ["pull"], writer: ["pull", "push"] };
    const settings = { mode: "LegacyRegistryPermissions" };
    const access = {
        permits: (principalId: string, id: string, action: RegistryAction) =>
            id === registryId && (roles[principalId]?.includes(action) ?? false),
        mode: () => settings.mode,
    };
    const endpoints = tokenEndpoints({ id: registryId, loginServer: server, signing, identity, access });
    const refreshToken = (objectId: string) => endpoints.exchange(exchangeForm(objectId)).refresh_token ?? "";
    const accessOf = (refresh: string, ...scopes: string[]) =>
        claims(endpoints.token(tokenForm(refresh, ...scopes)).access_token).access;
    return { roles, settings, endpoints, refreshToken, accessOf };
}

function exchangeForm(objectId: string, changes: Record<string, string> = {}, audience = registryAudience) {
    const token = identity.tokenFor({ objectId, tenantId }, audience);
    const form = { grant_type: "access_token", service: loginServer, tenant: tenantId, access_token: token };
    return new URLSearchParams({ ...form, ...changes });
}

function tokenForm(refreshToken: string, ...scopes: string[]) {
    const form = { grant_type: "refresh_token", service: loginServer, refresh_token: refreshToken };
    return new URLSearchParams([...Object.entries(form), ...scopes.map((scope) => ["scope", scope])]);
}

function claims(token: string | undefined) {
    return readToken(token ?? "", new X509Certificate(signing.certificate).publicKey);
}

function basic(user: string, password: string) {
    return `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
}

function refusal(act: () => unknown) {
    try {
        act();
    } catch (error) {
        if (error instanceof Refusal)
            return { status: error.status, code: error.code, message: error.message };
        throw error;
    }
    throw new Error("nothing was refused");
}

const unauthorized = {
    status: 401,
    code: "UNAUTHORIZED",
    message: expect.stringMatching(
        /^authentication required, visit https:\/\/aka\.ms\/acr\/authorization for more information\. CorrelationId: [\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/,
    ),
};

afterEach(() => jest.useRealTimers());
const later = (minutes: number) => jest.useFakeTimers({ now: Date.now() + minutes * 60_000 });

describe("exchange", () => {
    test("gives a refresh token of three hours", () => {
        const token = claims(aRegistry().refreshToken("writer"));
        expect(token).toMatchObject({
            iss: "Azure Container Registry",
            aud: loginServer,
            sub: "writer",
            tenant: tenantId,
            version: "1.0",
            grant_type: "refresh_token",
        });
        expect(Number(token.exp) - Number(token.nbf)).toBe(3 * 60 * 60);
    });

    test("takes both tokens of kubelet's credential provider", () => {
        const form = exchangeForm("reader", {
            grant_type: "access_token_refresh_token",
            refresh_token: "same",
        });
        expect(claims(aRegistry().endpoints.exchange(form).refresh_token).sub).toBe("reader");
    });

    test.each([
        ["whoever has no role", exchangeForm("stranger")],
        ["a token for another service", exchangeForm("reader", {}, "https://vault.azure.net")],
        ["a token of another tenant", exchangeForm("reader", { tenant: nullGuid })],
        ["a token that Entra did not issue", exchangeForm("reader", { access_token: "a.b.c" })],
        ["no token", exchangeForm("reader", { access_token: "" })],
        ["another registry's service", exchangeForm("reader", { service: "127.0.0.1:20001" })],
    ])("refuses %s", (_, form) => {
        expect(refusal(() => aRegistry().endpoints.exchange(form))).toEqual(unauthorized);
    });

    test("refuses an Entra token after its hour", () => {
        const form = exchangeForm("reader");
        later(61);
        expect(refusal(() => aRegistry().endpoints.exchange(form))).toEqual(unauthorized);
    });

    test("names the grants that it takes", () => {
        expect(
            refusal(() => aRegistry().endpoints.exchange(exchangeForm("reader", { grant_type: "x" }))),
        ).toEqual({
            status: 400,
            code: "UNSUPPORTED",
            message: "grant_type must be access_token or access_token_refresh_token",
        });
    });
});

describe("token", () => {
    test("gives an access token of 75 minutes that the registry's process can verify", () => {
        const { endpoints, refreshToken } = aRegistry();
        const form = tokenForm(refreshToken("writer"), "repository:team/nginx:pull,push");
        const { access_token = "" } = endpoints.token(form);
        const token = claims(access_token);
        expect(token).toMatchObject({
            iss: "Azure Container Registry",
            aud: loginServer,
            grant_type: "access_token",
            access: [{ type: "repository", name: "team/nginx", actions: ["pull", "push"] }],
        });
        expect(Number(token.exp) - Number(token.nbf)).toBe(75 * 60);
        const header = JSON.parse(Buffer.from(access_token.split(".")[0] ?? "", "base64url").toString());
        const chain = [new X509Certificate(signing.certificate).raw.toString("base64")];
        expect(header).toEqual({ typ: "JWT", alg: "RS256", x5c: chain });
    });

    test.each([
        [["repository:nginx:pull,push"], [{ type: "repository", name: "nginx", actions: ["pull"] }]],
        [["repository:nginx:push"], []],
        [["repository:nginx:*"], []],
        [["registry:catalog:*"], []],
        [["nonsense", "repository:nginx:delete"], []],
        [[], []],
        [
            ["repository:a:pull repository:b:pull", "repository:c:pull"],
            ["a", "b", "c"].map((name) => ({ type: "repository", name, actions: ["pull"] })),
        ],
    ])("gives who may only pull, for %j, %j", (scopes, expected) => {
        const { refreshToken, accessOf } = aRegistry();
        expect(accessOf(refreshToken("reader"), ...scopes)).toEqual(expected);
    });

    test("asks for permission anew: a lost role ends it, a new one counts at once", () => {
        const { roles, endpoints, refreshToken, accessOf } = aRegistry();
        const token = refreshToken("reader");
        roles.reader = [];
        const form = tokenForm(token, "repository:nginx:pull");
        expect(refusal(() => endpoints.token(form))).toEqual(unauthorized);
        roles.reader = ["pull", "push"];
        expect(accessOf(token, "repository:nginx:push")).toHaveLength(1);
    });

    test("voids refresh tokens when the permission mode changes", () => {
        const { settings, endpoints, refreshToken } = aRegistry();
        const form = tokenForm(refreshToken("reader"), "repository:nginx:pull");
        settings.mode = "AbacRepositoryPermissions";
        expect(refusal(() => endpoints.token(form))).toEqual(unauthorized);
    });

    test("refuses a refresh token after three hours", () => {
        const { endpoints, refreshToken } = aRegistry();
        const form = tokenForm(refreshToken("reader"));
        later(181);
        expect(refusal(() => endpoints.token(form))).toEqual(unauthorized);
    });

    test("refuses tokens that are no refresh tokens of this registry", async () => {
        const { endpoints, refreshToken } = aRegistry();
        const elsewhere = await certificateIn(
            directory,
            "other",
            { commonName: "acr2", use: "tokens" },
            authority,
        );
        const access = { permits: () => true, mode: () => "LegacyRegistryPermissions" };
        const other = tokenEndpoints({ id: registryId, loginServer, signing: elsewhere, identity, access });
        const foreign = other.exchange(exchangeForm("reader")).refresh_token;
        const issued = endpoints.token(tokenForm(refreshToken("reader"))).access_token;
        for (const token of [
            foreign,
            issued,
            "",
            identity.tokenFor({ objectId: "reader", tenantId }, loginServer),
        ]) {
            expect(refusal(() => endpoints.token(tokenForm(token ?? "")))).toEqual(unauthorized);
        }
    });

    test("answers containerd's password grant with 400", () => {
        const form = new URLSearchParams({ grant_type: "password", service: loginServer, username: "a" });
        expect(refusal(() => aRegistry().endpoints.token(form)).status).toBe(400);
    });
});

describe("token by password", () => {
    const query = new URLSearchParams({ service: loginServer, scope: "repository:nginx:pull" });

    test("takes a refresh token from the null GUID", () => {
        const { endpoints, refreshToken } = aRegistry();
        const header = basic(nullGuid, refreshToken("reader"));
        const expected = [{ type: "repository", name: "nginx", actions: ["pull"] }];
        expect(claims(endpoints.tokenByPassword(query, header).access_token).access).toEqual(expected);
    });

    test("gives nothing to the anonymous, to other users and to other passwords", () => {
        const { endpoints, refreshToken } = aRegistry();
        const headers = [undefined, basic("admin", refreshToken("reader")), basic(nullGuid, "x"), "Bearer x"];
        for (const header of headers) {
            expect(refusal(() => endpoints.tokenByPassword(query, header))).toEqual(unauthorized);
        }
    });
});

describe("identity", () => {
    const kubelet: Principal = { objectId: "reader", tenantId };

    test("tells whom a token was issued to, also after a restart", () => {
        const token = identity.tokenFor(kubelet, "https://r");
        const restarted = openIdentity(join(directory, "identity.key"));
        expect(restarted.verify(token)).toEqual({ ...kubelet, audience: "https://r" });
    });

    test("refuses a token whose claims were changed", () => {
        const [header, , signature] = identity.tokenFor(kubelet, "https://r").split(".");
        const [, forged] = openIdentity(join(directory, "x.key")).tokenFor(kubelet, "https://s").split(".");
        expect(() => identity.verify(`${header}.${forged}.${signature}`)).toThrow(
            "the token was not issued here",
        );
    });

    test("keeps its key for its owner only", () => {
        expect(statSync(join(directory, "identity.key")).mode & 0o777).toBe(0o600);
    });

    describe("endpoint", () => {
        const resource = "resource=https://r&api-version=2018-02-01";
        let attached: Principal | undefined = kubelet;
        let endpoint: Awaited<ReturnType<typeof serveIdentityEndpoint>>;
        beforeAll(async () => {
            const place = { address: "127.0.0.1", clients: ["127.0.0.1"] };
            endpoint = await serveIdentityEndpoint(place, identity, () => attached);
        });
        afterAll(() => endpoint.stop());
        const ask = async (query: string, headers: Record<string, string> = { Metadata: "true" }) => {
            const response = await fetch(`${endpoint.url}?${query}`, { headers });
            // biome-ignore lint/suspicious/noExplicitAny: a body of no fixed shape.
            return { status: response.status, body: (await response.json()) as any };
        };

        test("gives a token of the identity that is attached", async () => {
            const { status, body } = await ask(resource);
            expect(status).toBe(200);
            expect(body).toMatchObject({ expires_in: "3600", token_type: "Bearer" });
            expect(identity.verify(body.access_token)).toEqual({ ...kubelet, audience: "https://r" });
        });

        test("has none where no identity is attached", async () => {
            attached = undefined;
            const body = { error: "invalid_request", error_description: "Identity not found" };
            expect(await ask(resource)).toEqual({ status: 400, body });
            attached = kubelet;
        });

        test("answers nobody but its machines", async () => {
            const place = { address: "127.0.0.1", clients: ["10.224.0.1"] };
            const { url, stop } = await serveIdentityEndpoint(place, identity, () => kubelet);
            expect((await fetch(`${url}?${resource}`, { headers: { Metadata: "true" } })).status).toBe(403);
            stop();
        });

        test.each([
            ["Required metadata header not specified", resource, {}],
            [
                "Required metadata header not specified",
                resource,
                { Metadata: "true", "X-Forwarded-For": "1.2.3.4" },
            ],
        ])("refuses with: %s", async (reason, query, headers) => {
            const body = { error: "invalid_request", error_description: reason };
            expect(await ask(query, headers as Record<string, string> | undefined)).toEqual({
                status: 400,
                body,
            });
        });

        test("and the credential provider get kubelet a registry token, and none without a role", async () => {
            // Stands in for the whole registry: its exchange.
            const server = { commonName: "acr1", use: "server", names: ["127.0.0.1"] } as const;
            const { certificate: cert, key } = await certificateIn(directory, "server", server, authority);
            const registry = createHttpsServer({ cert, key }, async (request, response) => {
                const form = new URLSearchParams(await text(request));
                try {
                    expect(`${request.method} ${request.url}`).toBe("POST /oauth2/exchange");
                    return response.end(JSON.stringify(endpoints.exchange(form)));
                } catch (error) {
                    return response.writeHead((error as Refusal).status).end();
                }
            });
            await once(registry.listen(0, "127.0.0.1"), "listening");
            const host = `127.0.0.1:${(registry.address() as AddressInfo).port}`;
            const { roles, endpoints } = aRegistry(host);

            const granted = await runCredentialProvider(`${host}/nginx@sha256:0`, endpoint.url);
            expect(granted).toMatchObject({
                kind: "CredentialProviderResponse",
                apiVersion: "credentialprovider.kubelet.k8s.io/v1",
                cacheKeyType: "Registry",
                cacheDuration: "1h0m0s",
            });
            expect(Object.keys(granted.auth)).toEqual([host]);
            expect(granted.auth[host].username).toBe(nullGuid);
            expect(claims(granted.auth[host].password).sub).toBe("reader");

            roles.reader = [];
            const denied = await runCredentialProvider(`${host}/nginx@sha256:0`, endpoint.url);
            expect(denied).toMatchObject({ cacheDuration: "0s", auth: {} });
            registry.close();
        });
    });
});

async function runCredentialProvider(image: string, endpoint: string) {
    const program = join(__dirname, "../../sandbox/credential-provider.mjs");
    const env = {
        AKS_ACR_IDENTITY_ENDPOINT: endpoint,
        NODE_EXTRA_CA_CERTS: join(directory, "ca.crt"),
    };
    const child = spawn(process.execPath, [program], { env, stdio: ["pipe", "pipe", "ignore"] });
    const apiVersion = "credentialprovider.kubelet.k8s.io/v1";
    child.stdin.end(JSON.stringify({ kind: "CredentialProviderRequest", apiVersion, image }));
    let output = "";
    for await (const chunk of child.stdout) output += chunk;
    return JSON.parse(output);
}

describe("certificates", () => {
    const request = { commonName: "acr1", use: "server", names: ["127.0.0.1", "localhost"] } as const;
    const kept = mkdtempSync(join(directory, "kept-"));

    test("a server's is valid for its names and signed by the authority", async () => {
        const certificate = new X509Certificate(
            (await certificateIn(kept, "a", request, authority)).certificate,
        );
        const issuer = new X509Certificate(authority.certificate);
        expect(certificate.checkIP("127.0.0.1")).toBe("127.0.0.1");
        expect(certificate.checkHost("localhost")).toBe("localhost");
        expect(certificate.checkIP("10.0.0.1")).toBeUndefined();
        expect(certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)).toBe(true);
        expect(issuer.ca).toBe(true);
        expect(certificate.ca).toBe(false);
    });

    test("is kept, for its owner only, until a name is added, the issuer changes or it nears its end", async () => {
        const make = async (names: string[], issuer = authority) =>
            (await certificateIn(kept, "b", { ...request, names }, issuer)).certificate;
        const first = await make(["127.0.0.1"]);
        expect(await make(["127.0.0.1"])).toBe(first);
        expect(statSync(join(kept, "b.key")).mode & 0o777).toBe(0o600);
        const second = await make(["127.0.0.1", "localhost"]);
        expect(second).not.toBe(first);
        const other = await certificateIn(kept, "ca", { commonName: "authority", use: "authority" });
        const third = await make(["localhost"], other);
        expect(third).not.toBe(second);
        later(701 * 24 * 60);
        expect(await make(["localhost"], other)).not.toBe(third);
    });
});

test("a sandbox has as many ports for registries as it can run", () => {
    const all = registryPorts(20_000);
    expect(all).toHaveLength(32);
    expect([all[0], all.at(-1)]).toEqual([20_000, 20_031]);
});

describe("the registry", () => {
    const refused = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\n{}";
    const [head, half] = [
        "PUT /v2/nginx/manifests/v1 HTTP/1.1\r\nContent-Length: 2000\r\n",
        "x".repeat(1000),
    ];

    test("tells a refusal in Azure's words, also when the process refuses before all has been sent", async () => {
        const port = 31_999;
        const socket = join(directory, "registry.sock");
        let client: TLSSocket | undefined;
        // As Go's net/http does: told to close the connection, it does so without having read the body.
        const upstream = createTcpServer((connection) => {
            let received = "";
            connection
                .on("error", () => undefined)
                .on("data", (chunk) => {
                    if (!received) client?.write(half);
                    received += chunk;
                    if (/^connection: close/im.test(received)) connection.end(refused).destroy();
                    else if (received.includes(half + half)) connection.write(refused);
                });
        });
        const registry = await startRegistry({
            ...{ id: registryId, name: "acr1", directory: join(directory, "acr1"), port, socket, authority },
            ...{ binary: "docker-registry", identity },
            access: { permits: () => false, mode: () => "LegacyRegistryPermissions" },
            processes: {
                start: async () => void (await once(upstream.listen(socket), "listening")),
                stop: async () => void upstream.close(),
            },
        });
        client = connect({ host: "127.0.0.1", port, ca: authority.certificate });
        client.write(`${head}Host: acr1\r\nConnection: close\r\n\r\n${half}`);
        const answer = await text(client);
        await registry.stop();
        expect(answer).toMatch(/^HTTP\/1\.1 401 Unauthorized\r\n/);
        expect(answer).toMatch(/^WWW-Authenticate: Bearer\r$/im);
        expect(JSON.parse(answer.split("\r\n\r\n")[1] ?? "")).toEqual({
            errors: [{ code: "UNAUTHORIZED", message: unauthorized.message }],
        });
    });
});
