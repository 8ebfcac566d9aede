import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type Certificate, certificateIn } from "../../sandbox/certificates";
import { credentialsFor, logInToRegistry, saveCredentials } from "../../sandbox/registry-login";

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
    expect(credentialsFor(directory, loginServer())).toEqual({
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

describe("docker's configuration", () => {
    let kept: string;
    beforeEach(() => {
        kept = mkdtempSync(join(directory, "config-"));
    });
    const auth = Buffer.from("alice:pass:word").toString("base64");
    const write = (configuration: object) =>
        writeFileSync(join(kept, "config.json"), JSON.stringify(configuration));

    test("that is not there logs nobody in", () => {
        expect(credentialsFor(kept, "127.0.0.1:5000")).toBeUndefined();
    });

    test("has a login for its own server and port only", () => {
        write({ auths: { "127.0.0.1:5001": { auth: "eDp5" }, "127.0.0.1:5000": { auth } } });
        expect(credentialsFor(kept, "127.0.0.1:5000")).toEqual({ username: "alice", password: "pass:word" });
        expect(credentialsFor(kept, "127.0.0.1:5002")).toBeUndefined();
    });

    test("keeps a login beside what is there, for its owner only", () => {
        write({ auths: { "other.azurecr.io": { auth } }, proxies: {} });
        saveCredentials(kept, "127.0.0.1:5000", { username: "0000", password: "token" });
        expect(JSON.parse(readFileSync(join(kept, "config.json"), "utf8"))).toEqual({
            auths: { "other.azurecr.io": { auth }, "127.0.0.1:5000": { auth: "MDAwMDp0b2tlbg==" } },
            proxies: {},
        });
        expect(statSync(join(kept, "config.json")).mode & 0o777).toBe(0o600);
    });
});
