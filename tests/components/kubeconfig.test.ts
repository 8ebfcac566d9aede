import { dump, load } from "js-yaml";
import { type ClusterLogin, usableKubeconfig } from "../../components/kubeconfig";

const listed = (text: string) => [{ value: Buffer.from(text).toString("base64") }];

/** As AKS lists it for a cluster with Microsoft Entra. */
const entra = dump({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "web", cluster: { server: "https://web.example" } }],
    users: [
        {
            name: "clusterUser_team_web",
            user: {
                exec: {
                    apiVersion: "client.authentication.k8s.io/v1beta1",
                    command: "kubelogin",
                    args: [
                        "get-token",
                        ...[
                            "--environment",
                            "AzurePublicCloud",
                            "--server-id",
                            "6dae42f8",
                            "--client-id",
                            "80faf920",
                        ],
                        ...["--tenant-id", "72f988bf", "--login", "devicecode"],
                    ],
                },
            },
        },
    ],
});

// biome-ignore lint/suspicious/noExplicitAny: a file of no fixed shape.
const execOf = (text: string) => (load(text) as any).users[0].user.exec;

describe("a kubeconfig", () => {
    it("with a certificate is used as it is", () => {
        const text = "apiVersion: v1\nkind: Config\n";
        expect(usableKubeconfig(listed(text), "azurecli")).toBe(text);
    });

    it.each<[ClusterLogin, string[]]>([
        ["azurecli", ["--server-id", "6dae42f8"]],
        ["workloadidentity", ["--server-id", "6dae42f8"]],
        ["msi", ["--server-id", "6dae42f8"]],
        ["azurepipelines", ["--server-id", "6dae42f8"]],
        ["spn", ["--environment", "AzurePublicCloud", "--server-id", "6dae42f8", "--tenant-id", "72f988bf"]],
    ])(
        "of a cluster with Microsoft Entra logs in by %s, and asks nobody for a device code",
        (login, rest) => {
            const usable = usableKubeconfig(listed(entra), login);
            expect(execOf(usable)).toEqual({
                apiVersion: "client.authentication.k8s.io/v1beta1",
                command: "kubelogin",
                args: ["get-token", "--login", login, ...rest],
            });
            expect(usable).toContain("server: https://web.example");
        },
    );

    it("is empty where AKS lists none", () => {
        expect(usableKubeconfig([], "azurecli")).toBe("");
    });
});
