import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import type { KubernetesObject } from "../../../sandbox/kubernetes/client";
import * as client from "../../../sandbox/kubernetes/client";
import { NotReady, type Properties, type Provider, unknown } from "../../../sandbox/provider";
import { kubernetesProvider } from "../../../sandbox/providers/kubernetes";

/** What the API server is asked and answers; by default it holds what was applied. */
interface Api {
    requests: { method: string; path: string; query: URLSearchParams; body: KubernetesObject | undefined }[];
    objects: Map<string, KubernetesObject>;
    /** Answers instead, where it answers at all. */
    answer: (method: string, path: string) => { status: number; body: object } | undefined;
}

const failure = (code: number, reason: string, message: string) => ({
    status: code,
    body: { reason, message },
});

let server: Server;
let api: Api;
let provider: Provider;
let reports: string[];

beforeEach(async () => {
    api = { requests: [], objects: new Map(), answer: () => undefined };
    reports = [];
    server = createServer(async (request, response) => {
        const { pathname: path, searchParams: query } = new URL(request.url ?? "", "http://api");
        const method = request.method ?? "";
        const body = method === "PATCH" ? ((await json(request)) as KubernetesObject) : undefined;
        api.requests.push({ method, path, query, body });
        const { status, body: answer } = api.answer(method, path) ?? hold(method, path, query, body);
        response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
    });
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    provider = kubernetesProvider((message) => reports.push(message));
    await provider.configure?.({ kubeconfig: kubeconfig() });
});
afterEach(() => {
    jest.restoreAllMocks();
    server.closeAllConnections();
    server.close();
});

const kubeconfig = () =>
    JSON.stringify({
        "current-context": "one",
        contexts: [{ name: "one", context: { cluster: "one", user: "one" } }],
        clusters: [
            {
                name: "one",
                cluster: { server: `http://127.0.0.1:${(server.address() as AddressInfo).port}` },
            },
        ],
        users: [{ name: "one", user: { token: "t" } }],
    });

function hold(method: string, path: string, query: URLSearchParams, body: KubernetesObject | undefined) {
    const metadata = {
        ...body?.metadata,
        uid: "u1",
        managedFields: [{ manager: query.get("fieldManager") }],
    };
    const live = body ? { ...body, metadata, status: {} } : api.objects.get(path);
    if (!live) return failure(404, "NotFound", `${path} not found`);
    if (method === "PATCH" && !query.has("dryRun")) api.objects.set(path, live);
    if (method === "DELETE") api.objects.delete(path);
    return { status: 200, body: live };
}

const resource = (type: string, name = "page") => ({
    type,
    name,
    urn: `urn:pulumi:dev::test::${type}::${name}`,
});
const configMap = resource("kubernetes:core/v1:ConfigMap");
const path = "/api/v1/namespaces/default/configmaps/page";
const inputs = {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "page", namespace: "default" },
    data: { a: "1" },
};
const check = async (news: Properties, of = configMap) =>
    (await provider.check?.(of, {}, news, new Uint8Array()))?.inputs ?? {};
const asked = (method: string) => api.requests.filter((each) => each.method === method);
const created = async () => ({ inputs, outputs: (await provider.create(configMap, inputs, false)).outputs });

describe("the check of an object", () => {
    it("gives a namespace to kinds that have one only", async () => {
        const { namespace: _, ...unplaced } = inputs.metadata;
        expect(await check({ ...inputs, metadata: unplaced })).toEqual(inputs);
        const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: "nginx" } };
        const of = resource("kubernetes:core/v1:Namespace");
        expect((await check(namespace, of)).metadata).toEqual({ name: "nginx" });
    });

    it("leaves alone what is not known yet", async () => {
        const news = { ...inputs, metadata: { name: "page", namespace: unknown, annotations: unknown } };
        expect(await check(news)).toEqual(news);
    });

    it.each([
        ["patches and charts", inputs, "ConfigMapPatch"],
        ["objects without a name", { ...inputs, metadata: {} }, "ConfigMap"],
    ])("refuses %s, and says how to get them", async (_what, news, kind) => {
        await expect(check(news, resource(`kubernetes:core/v1:${kind}`))).rejects.toThrow(
            `The sandbox's stand-in for the kubernetes plugin knows no kubernetes:core/v1:${kind}: it makes objects of the API server that are given a name, nothing of Helm and no patches. Install the plugin: pulumi plugin install resource kubernetes 4.34.2.`,
        );
    });
});

describe("a preview", () => {
    it("asks the API server what would be, and changes nothing", async () => {
        const { id, outputs } = await provider.create(configMap, inputs, true);
        expect(id).toBe("");
        expect(outputs).toMatchObject({ data: { a: "1" }, metadata: { uid: "u1" } });
        expect(outputs.status).toBeUndefined();
        const [patch] = asked("PATCH");
        expect(Object.fromEntries(patch?.query ?? [])).toMatchObject({ dryRun: "All", force: "true" });
        expect(api.objects.size).toBe(0);
    });

    it("shows the inputs where something is not known yet", async () => {
        const news = { ...inputs, data: { a: unknown } };
        expect((await provider.create(configMap, news, true)).outputs).toEqual(news);
        expect(asked("PATCH")).toEqual([]);
    });

    it.each([
        ["whose namespace comes with the same update", failure(404, "NotFound", "namespaces not found")],
        ["that may not be asked for", failure(403, "Forbidden", "no")],
        ["that replaces one which cannot be changed", failure(422, "Invalid", "field is immutable")],
    ])("shows the inputs of an object %s", async (_what, answer) => {
        api.answer = (method) => (method === "PATCH" ? answer : undefined);
        expect((await provider.create(configMap, inputs, true)).outputs).toEqual(inputs);
    });

    it("fails where the API server would refuse", async () => {
        api.answer = (method) => (method === "PATCH" ? failure(422, "Invalid", "data: bad") : undefined);
        await expect(provider.create(configMap, inputs, true)).rejects.toThrow(
            "ConfigMap default/page was refused by the API server: data: bad",
        );
    });
});

describe("an object", () => {
    it("is applied under a field manager of its own, which updates keep", async () => {
        const state = await created();
        const manager = state.outputs.__fieldManager;
        expect(manager).toMatch(/^pulumi-kubernetes-[\da-f]{8}$/);
        expect(state.outputs.metadata).toEqual({ name: "page", namespace: "default", uid: "u1" });
        await provider.update(configMap, "default/page", state, { ...inputs, data: { a: "2" } }, false);
        expect(asked("PATCH").map(({ query }) => [query.get("fieldManager"), query.get("force")])).toEqual([
            [manager, "false"],
            [manager, "false"],
        ]);
        expect(api.objects.get(path)?.data).toEqual({ a: "2" });
    });

    it.each([
        ["apps/v1", "Deployment", "/apis/apps/v1/namespaces/n/deployments/x"],
        ["networking.k8s.io/v1", "Ingress", "/apis/networking.k8s.io/v1/namespaces/n/ingresses/x"],
        [
            "networking.k8s.io/v1",
            "NetworkPolicy",
            "/apis/networking.k8s.io/v1/namespaces/n/networkpolicies/x",
        ],
    ])("of %s, %s is where the API server has it", async (apiVersion, kind, expected) => {
        const annotations = { "pulumi.com/skipAwait": "true" };
        const metadata = { name: "x", namespace: "n", annotations };
        await provider.create(
            resource(`kubernetes:${apiVersion}:${kind}`),
            { apiVersion, kind, metadata },
            false,
        );
        expect(asked("PATCH").map(({ path }) => path)).toEqual([expected]);
    });

    it("that is there already is not taken over", async () => {
        await created();
        await expect(provider.create(configMap, inputs, false)).rejects.toThrow(
            'ConfigMap default/page was refused by the API server: configmaps "page" already exists\nThis stack has not made it: delete it, choose another name, or take it over with `pulumi import`.',
        );
    });

    it("whose fields somebody else manages is overwritten only where the provider's configuration says so", async () => {
        const state = await created();
        const forced = async () => {
            await provider.update(configMap, "default/page", state, inputs, false);
            return asked("PATCH").at(-1)?.query.get("force");
        };
        expect(await forced()).toBe("false");
        await provider.configure?.({ kubeconfig: kubeconfig(), enablePatchForce: true });
        expect(await forced()).toBe("true");
    });

    it("is read with what somebody changed of it", async () => {
        const state = await created();
        const live = { ...api.objects.get(path), data: { a: "9", b: "their own" } };
        api.objects.set(path, live);
        expect((await provider.read(configMap, "default/page", state))?.inputs).toEqual({
            ...inputs,
            data: { a: "9" },
        });
    });

    it("is gone where the API server has none", async () => {
        const state = await created();
        api.objects.clear();
        expect(await provider.read(configMap, "default/page", state)).toBeUndefined();
        await expect(provider.delete(configMap, "default/page", state)).resolves.toBeUndefined();
    });

    it("is deleted once it is gone, not before", async () => {
        const state = await created();
        let reads = 0;
        const last = { status: 200, body: api.objects.get(path) ?? {} };
        api.answer = (method, asked) =>
            method === "GET" && asked === path && reads++ < 2 ? last : undefined;
        await provider.delete(configMap, "default/page", state);
        expect(reads).toBe(3);
        expect(asked("DELETE")[0]?.query.get("propagationPolicy")).toBe("Foreground");
        expect(reports).toEqual(["Waiting for deletion to complete"]);
    });
});

describe("a Deployment that does not become ready", () => {
    const of = resource("kubernetes:apps/v1:Deployment", "nginx0");
    const base = "/apis/apps/v1/namespaces/nginx";
    let there: boolean;
    const deployment = {
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { name: "nginx0", namespace: "nginx" },
        spec: { replicas: 1, selector: { matchLabels: { app: "nginx0" } } },
    };

    beforeEach(() => {
        const revision = { "deployment.kubernetes.io/revision": "1" };
        const metadata = {
            ...deployment.metadata,
            uid: "d",
            generation: 1,
            annotations: revision,
        };
        const set = { metadata: { uid: "rs", annotations: revision, ownerReferences: [{ uid: "d" }] } };
        const waiting = { reason: "ErrImagePull", message: "401 Unauthorized" };
        const pod = {
            metadata: { name: "p", namespace: "nginx", ownerReferences: [{ uid: "rs" }] },
            status: { containerStatuses: [{ name: "nginx", state: { waiting } }] },
        };
        const answers: Record<string, object> = {
            [`${base}/deployments/nginx0`]: { ...deployment, metadata, status: { observedGeneration: 1 } },
            [`${base}/replicasets`]: { items: [set] },
            "/api/v1/namespaces/nginx/pods": { items: [pod] },
        };
        api.answer = (method, path) => {
            there ||= method === "PATCH";
            return answers[path] && there ? { status: 200, body: answers[path] } : undefined;
        };
        there = true;
    });

    const awaited = "Waiting for app ReplicaSet to be available (0/1 Pods available)";
    const problem = "[Pod nginx/p] container nginx: [ErrImagePull] 401 Unauthorized";

    it("is kept in the state with the reasons, each told once", async () => {
        there = false;
        const error = await provider.create(of, deployment, false, 1).catch((thrown) => thrown);
        expect(error).toBeInstanceOf(NotReady);
        expect(error).toMatchObject({
            id: "nginx/nginx0",
            reasons: [`Timed out after 1 s: ${awaited}`, problem],
        });
        expect(error.outputs.metadata.uid).toBe("d");
        expect(reports).toEqual([awaited, problem]);
    });

    it("is not awaited where its annotation says so", async () => {
        const annotations = { "pulumi.com/skipAwait": "true" };
        api.answer = () => undefined;
        const inputs = { ...deployment, metadata: { ...deployment.metadata, annotations } };
        expect((await provider.create(of, inputs, false)).id).toBe("nginx/nginx0");
        expect(asked("GET").map(({ path }) => path)).not.toContain(`${base}/replicasets`);
    });

    it("is told on a refresh", async () => {
        await provider.update(
            of,
            "nginx/nginx0",
            { inputs: deployment, outputs: deployment },
            deployment,
            true,
        );
        const error = await provider
            .read(of, "nginx/nginx0", { inputs: deployment, outputs: deployment })
            .catch((thrown) => thrown);
        expect(error).toMatchObject({ reasons: [awaited, problem] });
    });
});

describe("a cluster that is out of reach", () => {
    it("is asked once, previews the inputs, and says how to forget its objects", async () => {
        const state = await created();
        const call = jest
            .fn()
            .mockRejectedValue(new client.Unreachable("The cluster at x is unreachable: no"));
        jest.spyOn(client, "connect").mockReturnValue({ call });
        const message =
            "The cluster at x is unreachable: no. Where the cluster is gone for good, give its provider deleteUnreachable: true, or run `pulumi up` with PULUMI_K8S_DELETE_UNREACHABLE=true, or take the object out of the state with `pulumi state delete`.";
        provider = kubernetesProvider(() => undefined);
        await provider.configure?.({ kubeconfig: "x" });
        await expect(provider.delete(configMap, "default/page", state)).rejects.toThrow(message);
        await expect(provider.read(configMap, "default/page", state)).rejects.toThrow(message);
        expect(await provider.create(configMap, inputs, true)).toEqual({ id: "", outputs: inputs });
        expect(call).toHaveBeenCalledTimes(1);
        await provider.configure?.({ kubeconfig: "x", deleteUnreachable: true });
        await expect(provider.delete(configMap, "default/page", state)).resolves.toBeUndefined();
        expect(await provider.read(configMap, "default/page", state)).toBeUndefined();
    });
});
