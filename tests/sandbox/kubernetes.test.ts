import * as fc from "fast-check";
import type { ClusterSpec } from "../../sandbox/kubernetes/cluster";
import { filesOf, flagsOf, kubeconfig, serverNames } from "../../sandbox/kubernetes/configuration";
import { addressesOf, chooseBlock, iptablesRules, isTaken } from "../../sandbox/kubernetes/network";

const spec: ClusterSpec = {
    name: "aks1",
    directory: "/home/me/check out/.sandbox/clusters/aks1",
    runDirectory: "/run/aks-acr/0a1b2c3d/aks1",
    tools: { kubernetes: "/cache/kubernetes", packages: "/cache/packages" },
    registry: { ports: [20000, 20001], certificateAuthority: "/home/me/ca.crt" },
    credentialProvider: { executable: "/home/me/bin/acr-credential-provider", env: { KEY: "value" } },
    tokenReview: "/home/me/token-review.kubeconfig",
};
const addresses = addressesOf(3);
const files = filesOf(spec, addresses, { cgroup: "/aks-acr-0a1b2c3d/pods/aks1", snapshotter: "overlayfs" });
const file = (name: string) => files[Object.keys(files).find((path) => path.endsWith(name)) ?? ""] ?? "";
const blocks = fc.integer({ min: 0, max: 1023 });

describe("addresses", () => {
    test("are a link, pods and Services out of one block", () => {
        expect(addresses).toEqual({
            gateway: "10.224.12.1",
            node: "10.224.12.2",
            pods: "10.224.13.0/24",
            services: "10.224.14.0/24",
            api: "10.224.14.1",
            dns: "10.224.14.10",
        });
    });

    test("of two blocks never overlap", () => {
        fc.assert(
            fc.property(blocks, blocks, (one, other) => {
                const { pods, services } = addressesOf(other);
                expect(isTaken(one, [pods])).toBe(one === other);
                expect(isTaken(one, [services])).toBe(one === other);
                expect(isTaken(one, [addressesOf(other).gateway])).toBe(one === other);
            }),
        );
    });

    test("keep clear of every route of the host", () => {
        const routes = fc.array(
            blocks.map((block) => addressesOf(block).pods),
            { maxLength: 300 },
        );
        fc.assert(
            fc.property(fc.string(), routes, (seed, taken) => {
                expect(isTaken(chooseBlock(seed, taken), taken)).toBe(false);
            }),
        );
    });

    test("of one cluster are sought from the same place each time", () => {
        expect(chooseBlock("/a", [])).toBe(chooseBlock("/a", []));
    });

    test.each([
        ["10.0.0.0/8", true],
        ["10.224.12.0/30", true],
        ["10.224.15.255", true],
        ["10.224.16.0/24", false],
        ["default", false],
        ["0.0.0.0/0", false],
    ])("a route to %s takes the block at 10.224.12.0: %s", (route, taken) => {
        expect(isTaken(3, [route])).toBe(taken);
    });

    test("that are all routed elsewhere are an error", () => {
        expect(() => chooseBlock("", ["10.0.0.0/8"])).toThrow(
            "Routes of this machine cover all of 10.224.0.0/12; remove one (see `ip route`).",
        );
    });
});

test("the registries' ports on the node's loopback lead to the host", () => {
    const rules = iptablesRules(addresses, [20000]).split("\n");
    expect(rules).toContain(
        "-A OUTPUT -d 127.0.0.1 -p tcp --dport 20000 -j DNAT --to-destination 10.224.12.1",
    );
    expect(rules).toContain("-A POSTROUTING -s 127.0.0.0/8 -o eth0 -j SNAT --to-source 10.224.12.2");
});

test("the API server knows nobody without a certificate or token, and asks RBAC", () => {
    expect(flagsOf(spec, addresses)["kube-apiserver"]).toMatchObject({
        "anonymous-auth": false,
        "authorization-mode": "Node,RBAC",
    });
});

test("the API server asks the webhook about bearer tokens, and soon again", () => {
    expect(flagsOf(spec, addresses)["kube-apiserver"]).toMatchObject({
        "authentication-token-webhook-cache-ttl": "10s",
        "authentication-token-webhook-config-file": "/home/me/token-review.kubeconfig",
        "authentication-token-webhook-version": "v1",
    });
});

test("etcd listens on sockets only", () => {
    const flags = flagsOf(spec, addresses).etcd;
    const listening = [flags["listen-client-urls"], flags["listen-peer-urls"]];
    expect(listening).toEqual(["unix://etcd:0", "unix://etcd:01"]);
});

test("kubelet asks the credential provider about each registry by its port", () => {
    expect(JSON.parse(file("kubelet-credential-provider.json")).providers).toEqual([
        {
            name: "acr-credential-provider",
            apiVersion: "credentialprovider.kubelet.k8s.io/v1",
            matchImages: ["127.0.0.1:20000", "127.0.0.1:20001"],
            defaultCacheDuration: "10m",
            env: [{ name: "KEY", value: "value" }],
        },
    ]);
});

test("kubelet serves only who the API server vouches for, in the sandbox's cgroup", () => {
    expect(JSON.parse(file("kubelet.json"))).toMatchObject({
        authentication: { anonymous: { enabled: false }, webhook: { enabled: true } },
        authorization: { mode: "Webhook" },
        cgroupRoot: "/aks-acr-0a1b2c3d/pods/aks1",
    });
});

test("containerd trusts the registries' authority, and no registry goes without TLS", () => {
    expect(file("127.0.0.1:20001/hosts.toml")).toBe(
        'server = "https://127.0.0.1:20001"\n[host."https://127.0.0.1:20001"]\nca = "/home/me/ca.crt"\n',
    );
});

test("containerd keeps its files in the cluster's directories", () => {
    const places = [
        ...file("config.toml").matchAll(/^(?:root|state|address|conf_dir|config_path|Root) = "(.*)"$/gm),
    ];
    expect(places).toHaveLength(6);
    for (const [, place = ""] of places) {
        expect(
            [spec.directory, spec.runDirectory].some((directory) => place.startsWith(`${directory}/`)),
        ).toBe(true);
    }
});

test("the API server's certificate names the address that the kubeconfig points to", () => {
    expect(serverNames(addresses)).toContain("10.224.12.2");
    const config = JSON.parse(
        kubeconfig("aks1", "https://10.224.12.2:6443", "authority", {
            certificate: "certificate",
            key: "key",
        }),
    );
    expect(config.clusters[0]).toEqual({
        name: "aks1",
        cluster: {
            server: "https://10.224.12.2:6443",
            "certificate-authority-data": Buffer.from("authority").toString("base64"),
        },
    });
    expect(config.users[0].user["client-key-data"]).toBe(Buffer.from("key").toString("base64"));
});
