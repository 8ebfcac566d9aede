import { podSpec } from "../../components/nginxPod";
import { unknown, violations } from "./violations";

const digest = `sha256:${"0123456789abcdef".repeat(4)}`;
const image = `teamimages.azurecr.io/nginx@${digest}`;
const template = (spec: object) => ({ spec: { template: { spec } } });

const deployment = (spec: object) => ({
    type: "kubernetes:apps/v1:Deployment",
    name: "nginx",
    inputs: template(spec),
});

const kinds: [string, (spec: object) => object][] = [
    ["core/v1:Pod", (spec) => ({ spec })],
    ["apps/v1:Deployment", template],
    ["apps/v1:ReplicaSet", template],
    ["core/v1:ReplicationController", template],
    ["apps/v1:StatefulSet", template],
    ["apps/v1:DaemonSet", template],
    ["batch/v1:Job", template],
    ["batch/v1:CronJob", (spec) => ({ spec: { jobTemplate: template(spec) } })],
];

describe("images-by-digest-from-allowed-registry", () => {
    const rule = "images-by-digest-from-allowed-registry";
    const running = (...images: unknown[]) =>
        deployment({ containers: images.map((each, index) => ({ name: `c${index}`, image: each })) });
    const byTag = (name: string) =>
        `Deployment nginx: container c0: image ${name} is not by digest; run <repository>@sha256:<digest>, as aks-acr:image makes it.`;
    const from = (name: string, host: string, allowed = "*.azurecr.io") =>
        `Deployment nginx: container c0: image ${name} is from ${host}, not ${allowed}; import it (aks-acr:image.import), or add the host to this rule's registries.`;

    it("takes an image of an Azure container registry by digest", () => {
        expect(violations(rule, running(image))).toEqual([]);
    });

    it.each(["teamimages.azurecr.io/nginx:1.29", "teamimages.azurecr.io/nginx", `${image}0`])(
        "refuses %s, which is not by digest",
        (name) => {
            expect(violations(rule, running(name))).toEqual([byTag(name)]);
        },
    );

    it.each([
        ["nginx", "docker.io"],
        ["library/nginx", "docker.io"],
        ["mcr.microsoft.com/nginx", "mcr.microsoft.com"],
        ["localhost/nginx", "localhost"],
        ["127.0.0.1:5000/nginx", "127.0.0.1:5000"],
        ["teamimages-azurecr.io/nginx", "teamimages-azurecr.io"],
        ["azurecr.io.example.com/teamimages.azurecr.io/nginx", "azurecr.io.example.com"],
    ])("refuses %s, which is from %s", (repository, host) => {
        const name = `${repository}@${digest}`;
        expect(violations(rule, running(name))).toEqual([from(name, host)]);
    });

    it("says both of an image by tag from elsewhere", () => {
        expect(violations(rule, running("nginx:1.29"))).toEqual([
            byTag("nginx:1.29"),
            from("nginx:1.29", "docker.io"),
        ]);
    });

    it("takes images from the hosts that it is configured to, and no others", () => {
        const registries = ["teamimages.azurecr.io", "127.0.0.1:*"];
        const other = `other.azurecr.io/nginx@${digest}`;
        expect(violations(rule, running(`127.0.0.1:26528/nginx@${digest}`, image), { registries })).toEqual(
            [],
        );
        expect(violations(rule, running(other), { registries })).toEqual([
            from(other, "other.azurecr.io", registries.join(" or ")),
        ]);
    });

    it.each(["initContainers", "containers", "ephemeralContainers"])("looks at %s", (key) => {
        const spec = { [key]: [{ name: "c0", image: "teamimages.azurecr.io/nginx" }] };
        expect(violations(rule, deployment(spec))).toEqual([byTag("teamimages.azurecr.io/nginx")]);
    });

    it.each(kinds)("looks at the pods of a %s", (type, inputs) => {
        const spec = { containers: [{ name: "c0", image: "teamimages.azurecr.io/nginx" }] };
        expect(violations(rule, { type: `kubernetes:${type}`, inputs: inputs(spec) })).toHaveLength(1);
    });

    it("looks at the other containers while an image is not yet known", () => {
        expect(violations(rule, running(unknown, "teamimages.azurecr.io/nginx"))).toHaveLength(1);
    });

    it.each([{ containers: unknown }, { containers: [unknown] }])("has nothing to say about %j", (spec) => {
        expect(violations(rule, deployment(spec))).toEqual([]);
    });
});

describe("no-privileged-pods", () => {
    const rule = "no-privileged-pods";
    const none = { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } };
    const secured = (securityContext: object | string) =>
        deployment({ containers: [{ name: "web", securityContext }] });
    const refused = (problem: string) => [`Deployment nginx: ${problem}.`];

    it("takes nginx's pod", () => {
        expect(violations(rule, deployment(podSpec({ image })))).toEqual([]);
    });

    it.each(["hostNetwork", "hostPID", "hostIPC"])("refuses %s", (key) => {
        expect(violations(rule, deployment({ [key]: true }))).toEqual(refused(`${key} is true; remove it`));
    });

    it("refuses a volume that is a path of the node", () => {
        const volumes = [
            { name: "tmp", emptyDir: {} },
            { name: "run", hostPath: { path: "/run" } },
        ];
        expect(violations(rule, deployment({ volumes }))).toEqual(
            refused("volume run is a hostPath; use an emptyDir or a claim"),
        );
    });

    it("refuses a privileged container", () => {
        expect(violations(rule, secured({ ...none, privileged: true }))).toEqual(
            refused("container web: privileged is true; remove it"),
        );
    });

    it.each([
        [true, "true"],
        [undefined, "not set"],
    ])("refuses allowPrivilegeEscalation: %s", (allowPrivilegeEscalation, found) => {
        expect(violations(rule, secured({ ...none, allowPrivilegeEscalation }))).toEqual(
            refused(`container web: allowPrivilegeEscalation is ${found}; set it to false`),
        );
    });

    it.each([undefined, { drop: [] }, { drop: ["NET_RAW"] }])("refuses capabilities: %j", (capabilities) => {
        expect(violations(rule, secured({ ...none, capabilities }))).toEqual(
            refused('container web: capabilities.drop is without ALL; set it to ["ALL"]'),
        );
    });

    it("refuses capabilities that a container adds", () => {
        const capabilities = { drop: ["ALL"], add: ["NET_ADMIN", "SYS_TIME"] };
        expect(violations(rule, secured({ ...none, capabilities }))).toEqual(
            refused("container web: capabilities.add has NET_ADMIN, SYS_TIME; remove that"),
        );
    });

    it("takes the capabilities that it is configured to", () => {
        const capabilities = { drop: ["ALL"], add: ["NET_BIND_SERVICE"] };
        const config = { capabilities: ["NET_BIND_SERVICE"] };
        expect(violations(rule, secured({ ...none, capabilities }), config)).toEqual([]);
    });

    it("refuses a container without a security context", () => {
        expect(violations(rule, deployment({ containers: [{ name: "web" }] }))).toHaveLength(2);
    });

    it.each(kinds)("looks at the pods of a %s", (type, inputs) => {
        const asked = { type: `kubernetes:${type}`, inputs: inputs({ hostNetwork: true }) };
        expect(violations(rule, asked)).toHaveLength(1);
    });

    it.each([
        { hostNetwork: unknown },
        { volumes: unknown },
        { volumes: [{ name: "run", hostPath: unknown }] },
        { containers: [{ name: "web", securityContext: unknown }] },
        {
            containers: [
                {
                    name: "web",
                    securityContext: {
                        privileged: unknown,
                        allowPrivilegeEscalation: unknown,
                        capabilities: { drop: [unknown], add: [unknown] },
                    },
                },
            ],
        },
    ])("has nothing to say about %j", (spec) => {
        expect(violations(rule, deployment(spec))).toEqual([]);
    });
});
