import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openIdentity } from "../../sandbox/identity";
import { serveTokenReview, tokenReviewKubeconfig } from "../../sandbox/kubernetes/token-review";

const directory = mkdtempSync(join(tmpdir(), "aks-acr-review-"));
const identity = openIdentity(join(directory, "identity.key"));
const user = { username: "alice", groups: ["platform-admins"] };
const place = { address: "127.0.0.1", clients: ["127.0.0.1"] };
const userOf = (objectId: string) => (objectId === "alice-id" ? user : undefined);
let webhook: Awaited<ReturnType<typeof serveTokenReview>>;

beforeAll(async () => {
    webhook = await serveTokenReview(place, identity, userOf);
});
afterAll(() => {
    webhook.stop();
    rmSync(directory, { recursive: true });
});

const aks = "6dae42f8-4368-4678-94ff-3960e28e3630";
const tokenOf = (objectId: string, audience = aks) =>
    identity.tokenFor({ objectId, tenantId: "tenant" }, audience);
const review = async (body: string) => {
    const answer = await fetch(webhook.url, { method: "POST", body });
    return { status: answer.status, body: await answer.json() };
};
const reviewOf = (token: string) => review(JSON.stringify({ kind: "TokenReview", spec: { token } }));
const answered = (status: object) => ({
    status: 200,
    body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenReview", status },
});

test("a token for AKS is its bearer's, as the cluster knows them", async () => {
    expect(await reviewOf(tokenOf("alice-id"))).toEqual(answered({ authenticated: true, user }));
});

test.each([
    [
        "for another service",
        tokenOf("alice-id", "https://management.azure.com/"),
        "the token is for another service",
    ],
    [
        "of somebody that the cluster does not know",
        tokenOf("bob-id"),
        "the cluster takes no tokens of Microsoft Entra from this principal",
    ],
    ["that is forged", `${tokenOf("alice-id").slice(0, -8)}AAAAAAAA`, "the token was not issued here"],
])("a token %s is nobody's", async (_what, token, error) => {
    expect(await reviewOf(token)).toEqual(answered({ authenticated: false, error }));
});

test("what is no review is answered, and nobody authenticated", async () => {
    expect((await review("{}")).body).toMatchObject({ status: { authenticated: false } });
});

test("only the cluster's node may ask", async () => {
    const other = await serveTokenReview({ address: "127.0.0.1", clients: ["10.0.0.2"] }, identity, userOf);
    const body = JSON.stringify({ spec: { token: tokenOf("alice-id") } });
    const answer = await fetch(other.url, { method: "POST", body });
    other.stop();
    expect([answer.status, await answer.text()]).toEqual([403, ""]);
});

test("the API server is told where the webhook is by a kubeconfig", () => {
    expect(JSON.parse(tokenReviewKubeconfig("http://10.224.12.1:40000"))).toEqual({
        apiVersion: "v1",
        kind: "Config",
        clusters: [{ name: "token-review", cluster: { server: "http://10.224.12.1:40000" } }],
        contexts: [{ name: "token-review", context: { cluster: "token-review" } }],
        "current-context": "token-review",
    });
});
