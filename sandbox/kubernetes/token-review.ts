import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import type { Identity } from "../identity";
import { kubeconfigOf } from "./configuration";

/** Application id of "Azure Kubernetes Service AAD Server", whom tokens for AKS's API servers are for, in every tenant. */
const audience = "6dae42f8-4368-4678-94ff-3960e28e3630";

/** Whom an API server takes the bearer of a token for. */
export interface ClusterUser {
    username: string;
    groups: string[];
}

/**
 * Serves the webhook that a cluster's API server asks whose a bearer token is (documentation page "Authenticating",
 * Webhook Token Authentication), on a free port of the address. `clients` are the addresses that may ask.
 *
 * @param userOf whom the cluster knows the principal with this object id as; undefined where it does not.
 */
export async function serveTokenReview(
    { address, clients }: { address: string; clients: string[] },
    identity: Pick<Identity, "verify">,
    userOf: (objectId: string) => ClusterUser | undefined,
): Promise<{ url: string; stop(): void }> {
    const review = (token: string) => {
        const bearer = identity.verify(token);
        if (bearer.audience !== audience) throw new Error("the token is for another service");
        const user = userOf(bearer.objectId);
        if (!user) throw new Error("the cluster takes no tokens of Microsoft Entra from this principal");
        return { authenticated: true, user };
    };
    const server = createServer(async (request, response) => {
        if (!clients.includes(request.socket.remoteAddress ?? "")) return response.writeHead(403).end();
        const status = await json(request)
            .then((asked) => review((asked as { spec: { token: string } }).spec.token))
            .catch((error: Error) => ({ authenticated: false, error: error.message }));
        const answer = { apiVersion: "authentication.k8s.io/v1", kind: "TokenReview", status };
        return response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(answer));
    });
    await once(server.listen(0, address), "listening");
    return {
        url: `http://${address}:${(server.address() as AddressInfo).port}`,
        stop() {
            server.close();
            server.closeAllConnections();
        },
    };
}

/** What tells an API server where the webhook is: a kubeconfig without a credential. */
export const tokenReviewKubeconfig = (server: string): string => kubeconfigOf("token-review", { server });
