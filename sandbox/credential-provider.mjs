// Kubelet's image credential provider, after AKS's acr-credential-provider: exchanges a token of the kubelet
// identity for one of the registry. CredentialProviderRequest on stdin, CredentialProviderResponse on stdout.
// Environment: AKS_ACR_IDENTITY_ENDPOINT (URL of the token endpoint), AKS_ACR_TENANT_ID, AKS_ACR_CLIENT_ID
// (of the kubelet identity), and NODE_EXTRA_CA_CERTS for the registry's certificate.

const apiVersion = "credentialprovider.kubelet.k8s.io/v1";
/** The user name that marks a password as a registry token. */
const user = "00000000-0000-0000-0000-000000000000";
const deadline = AbortSignal.timeout(60_000);

/** Fetches with the provider's name; the error names address and status, never a token. */
async function get(url, options, expected = 200) {
    const headers = { ...options.headers, "User-Agent": "kubernetes-credentialprovider-acr" };
    const response = await fetch(url, { ...options, headers, signal: deadline, redirect: "error" });
    if (response.status !== expected) {
        throw new Error(`${url.split("?")[0]} responded with status code ${response.status}`);
    }
    return response;
}

async function identityToken() {
    const query = new URLSearchParams({
        "api-version": "2018-02-01",
        resource: "https://containerregistry.azure.net",
        client_id: setting("AKS_ACR_CLIENT_ID"),
    });
    const url = `${setting("AKS_ACR_IDENTITY_ENDPOINT")}?${query}`;
    return (await (await get(url, { headers: { Metadata: "true" } })).json()).access_token;
}

/** The service that the challenge names; the realm must be the registry: no token goes elsewhere. */
async function serviceOf(loginServer) {
    const response = await get(`https://${loginServer}/v2/`, {}, 401);
    const challenge = response.headers.get("www-authenticate") ?? "";
    const realm = /^Bearer .*?\brealm="([^"]+)"/i.exec(challenge)?.[1];
    const service = /^Bearer .*?\bservice="([^"]+)"/i.exec(challenge)?.[1];
    if (!realm || !service) throw new Error(`https://${loginServer}/v2/ gave no Bearer challenge`);
    if (new URL(realm).origin !== `https://${loginServer}`) {
        throw new Error(`https://${loginServer}/v2/ sends to another host for tokens`);
    }
    return service;
}

async function registryToken(loginServer) {
    const service = await serviceOf(loginServer);
    const token = await identityToken();
    const body = new URLSearchParams({
        grant_type: "access_token_refresh_token",
        service,
        tenant: setting("AKS_ACR_TENANT_ID"),
        access_token: token,
        refresh_token: token,
    });
    const response = await get(`https://${loginServer}/oauth2/exchange`, { method: "POST", body });
    return (await response.json()).refresh_token;
}

function setting(name) {
    const value = process.env[name];
    if (!value) throw new Error(`the environment variable ${name} is not set`);
    return value;
}

async function respond() {
    let text = "";
    for await (const chunk of process.stdin) text += chunk;
    const request = JSON.parse(text);
    if (request.kind !== "CredentialProviderRequest" || request.apiVersion !== apiVersion) {
        throw new Error(`stdin is no CredentialProviderRequest of ${apiVersion}`);
    }
    const loginServer = request.image.split("/")[0];
    return { [loginServer]: { username: user, password: await registryToken(loginServer) } };
}

const response = { kind: "CredentialProviderResponse", apiVersion, cacheKeyType: "Registry" };
try {
    console.log(JSON.stringify({ ...response, cacheDuration: "1h0m0s", auth: await respond() }));
} catch (error) {
    // Nothing is cached: kubelet pulls without a credential, and asks again at its next try.
    console.error(`acr-credential-provider: ${error.cause?.message ?? error.message}`);
    console.log(JSON.stringify({ ...response, cacheDuration: "0s", auth: {} }));
}
