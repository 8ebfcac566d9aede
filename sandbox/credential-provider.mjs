// Kubelet's image credential provider, after AKS's acr-credential-provider: exchanges a token of the kubelet
// identity for one of the registry. CredentialProviderRequest on stdin, CredentialProviderResponse on stdout.
// Environment: AKS_ACR_IDENTITY_ENDPOINT, URL of the token endpoint, and NODE_EXTRA_CA_CERTS for the registry's certificate.
import { json } from "node:stream/consumers";

/** The user name that marks a password as a registry token. */
const username = "00000000-0000-0000-0000-000000000000";
const deadline = AbortSignal.timeout(60_000);

/** Fetches JSON; the error names address and status, never a token. */
async function ask(url, options) {
    const response = await fetch(url, { ...options, signal: deadline, redirect: "error" });
    if (response.ok) return await response.json();
    throw new Error(`${url.split("?")[0]} responded with status code ${response.status}`);
}

async function registryToken(service) {
    const resource = "https://containerregistry.azure.net";
    const query = new URLSearchParams({ "api-version": "2018-02-01", resource });
    const endpoint = process.env.AKS_ACR_IDENTITY_ENDPOINT;
    const { access_token } = await ask(`${endpoint}?${query}`, { headers: { Metadata: "true" } });
    const grant_type = "access_token_refresh_token";
    const body = new URLSearchParams({ grant_type, service, access_token, refresh_token: access_token });
    return (await ask(`https://${service}/oauth2/exchange`, { method: "POST", body })).refresh_token;
}

const { apiVersion, image } = await json(process.stdin);
const response = { kind: "CredentialProviderResponse", apiVersion, cacheKeyType: "Registry" };
const [loginServer] = image.split("/");
try {
    const auth = { [loginServer]: { username, password: await registryToken(loginServer) } };
    console.log(JSON.stringify({ ...response, cacheDuration: "1h0m0s", auth }));
} catch (error) {
    // Nothing is cached: kubelet pulls without a credential, and asks again at its next try.
    console.error(`acr-credential-provider: ${error.cause?.message ?? error.message}`);
    console.log(JSON.stringify({ ...response, cacheDuration: "0s", auth: {} }));
}
