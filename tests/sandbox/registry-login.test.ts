import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type Certificate, certificateIn } from "../../sandbox/certificates";
import { credentialsFor } from "../../sandbox/docker-configuration";
import { logInToRegistry } from "../../sandbox/registry-login";

const directory = mkdtempSync(join(tmpdir(), "aks-acr-login-"));
const asked: [url: string | undefined, form: string][] = [];
let authority: Certificate;
let registry: Server;
let status = 200;

beforeAll(async () => {
    authority = await certificateIn(directory, "ca", { commonName: "authority", use: "authority" });
    const serving = { commonName: "acr", use: "server", names: ["127.0.0.1"] } as const;
    const { certificate: cert, key } = await certificateIn(directory, "server", serving, authority);
    registry = createServer({ cert, key }, async (request, response) => {
        asked.push([request.url, await text(request)]);
        response.writeHead(status).end(JSON.stringify({ refresh_token: "refresh" }));
    });
    await once(registry.listen(0, "127.0.0.1"), "listening");
});
afterAll(() => {
    registry.close().closeAllConnections();
    rmSync(directory, { recursive: true });
});

const logIn = (loginServer: string) =>
    logInToRegistry({
        loginServer,
        accessToken: "entra",
        tenantId: "tenant",
        authority: authority.certificate,
        directory,
    });
const loginServer = () => `127.0.0.1:${(registry.address() as AddressInfo).port}`;

test("the caller's token is exchanged, and docker logs in with what the registry gives", async () => {
    await logIn(loginServer());
    const service = encodeURIComponent(loginServer());
    expect(asked).toEqual([
        ["/oauth2/exchange", `grant_type=access_token&service=${service}&tenant=tenant&access_token=entra`],
    ]);
    expect(await credentialsFor(directory, loginServer())).toEqual({
        username: "00000000-0000-0000-0000-000000000000",
        password: "refresh",
    });
});

test("a refusal is told in the Azure CLI's words", async () => {
    status = 401;
    await expect(logIn(loginServer())).rejects.toThrow(
        `Access to registry '${loginServer()}' was denied. Response code: 401. Please try running 'az login' again to refresh permissions.`,
    );
});
