import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { credentialsFor, saveCredentials } from "../../sandbox/docker-configuration";

let directory: string;
const path = process.env.PATH;
beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "aks-acr-config-"));
    process.env.PATH = `${directory}:${path}`;
});
afterEach(() => {
    process.env.PATH = path;
    rmSync(directory, { recursive: true });
});

const write = (configuration: object) =>
    writeFileSync(join(directory, "config.json"), JSON.stringify(configuration));
const helper = (name: string, script: string) =>
    writeFileSync(join(directory, `docker-credential-${name}`), `#!/bin/sh\n${script}\n`, { mode: 0o700 });
const auth = Buffer.from("alice:pass:word").toString("base64");
const alice = { username: "alice", password: "pass:word" };

test("without a configuration nobody is logged in", async () => {
    expect(await credentialsFor(directory, "127.0.0.1:5000")).toBeUndefined();
});

test.each([
    ["127.0.0.1:5000", "127.0.0.1:5000"],
    ["https://team.azurecr.io", "team.azurecr.io"],
    ["https://team.azurecr.io/v2/", "team.azurecr.io"],
    ["https://index.docker.io/v1/", "docker.io"],
])("a login that docker keeps for %s is %s's", async (key, server) => {
    write({ auths: { "other.azurecr.io": { auth: "eDp5" }, [key]: { auth } } });
    expect(await credentialsFor(directory, server)).toEqual(alice);
});

test("a login for another port is none", async () => {
    write({ auths: { "127.0.0.1:5001": { auth } } });
    expect(await credentialsFor(directory, "127.0.0.1:5000")).toBeUndefined();
});

test("a credential helper is asked for its own server by its standard input, the store for the others", async () => {
    const answer = (user: string) => `echo '{"Username":"${user}","Secret":"'"$(cat)-$1"'"}'`;
    helper("acr", answer("acr"));
    helper("store", answer("store"));
    write({
        credsStore: "store",
        credHelpers: { "team.azurecr.io": "acr" },
        auths: { "team.azurecr.io": {} },
    });
    expect(await credentialsFor(directory, "team.azurecr.io")).toEqual({
        username: "acr",
        password: "team.azurecr.io-get",
    });
    expect(await credentialsFor(directory, "docker.io")).toEqual({
        username: "store",
        password: "https://index.docker.io/v1/-get",
    });
});

test("a credential helper that has no login is no error", async () => {
    helper("store", "echo credentials not found in native keychain; exit 1");
    write({ credsStore: "store" });
    expect(await credentialsFor(directory, "team.azurecr.io")).toBeUndefined();
});

test("a credential helper that fails is named with what it says", async () => {
    helper("store", "echo the keychain is locked; exit 1");
    write({ credsStore: "store" });
    await expect(credentialsFor(directory, "team.azurecr.io")).rejects.toThrow(
        "docker-credential-store gives no login for team.azurecr.io: the keychain is locked",
    );
});

test("a credential helper that is not installed is named", async () => {
    write({ credsStore: "nowhere" });
    await expect(credentialsFor(directory, "team.azurecr.io")).rejects.toThrow(
        "docker-credential-nowhere gives no login for team.azurecr.io: spawn docker-credential-nowhere ENOENT",
    );
});

test("a login is kept beside what is there, for its owner only", async () => {
    write({ auths: { "other.azurecr.io": { auth } }, proxies: {} });
    saveCredentials(directory, "127.0.0.1:5000", { username: "0000", password: "token" });
    expect(JSON.parse(readFileSync(join(directory, "config.json"), "utf8"))).toEqual({
        auths: { "other.azurecr.io": { auth }, "127.0.0.1:5000": { auth: "MDAwMDp0b2tlbg==" } },
        proxies: {},
    });
    expect(statSync(join(directory, "config.json")).mode & 0o777).toBe(0o600);
});
