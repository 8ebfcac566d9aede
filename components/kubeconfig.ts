/** Ways to log in to a cluster with Microsoft Entra that ask nobody anything ("Convert kubeconfig", kubelogin). */
export const clusterLogins = ["azurecli", "workloadidentity", "spn", "msi", "azurepipelines"] as const;
export type ClusterLogin = (typeof clusterLogins)[number];

interface Exec {
    command: string;
    args?: string[];
}

/** What each way takes over from AKS's own arguments; the rest comes from the environment (kubelogin's documentation). */
const kept: Record<ClusterLogin, string[]> = {
    azurecli: ["--server-id"],
    workloadidentity: ["--server-id"],
    spn: ["--environment", "--server-id", "--tenant-id"],
    msi: ["--server-id"],
    azurepipelines: ["--server-id"],
};

/**
 * The first of the kubeconfigs that AKS lists, such that kubectl can use it as it stands. One for a cluster with Microsoft
 * Entra holds no credential but runs kubelogin, as AKS has it with a device code that somebody must type; here it takes
 * the caller's login instead.
 *
 * @param credentials what AKS lists; each value is a file's text in base64.
 */
export function usableKubeconfig(credentials: { value: string }[], login: ClusterLogin): string {
    const text = Buffer.from(credentials[0]?.value ?? "", "base64").toString("utf8");
    if (!text.includes("kubelogin")) return text;
    // Loaded where it is needed: most runs never do.
    const { dump, load } = require("js-yaml") as typeof import("js-yaml");
    const config = load(text) as { users?: { user?: { exec?: Exec } }[] };
    for (const { user } of config.users ?? []) {
        if (user?.exec?.command.endsWith("kubelogin"))
            user.exec.args = argumentsFor(login, user.exec.args ?? []);
    }
    return dump(config, { lineWidth: -1 });
}

function argumentsFor(login: ClusterLogin, given: string[]): string[] {
    const options = kept[login].flatMap((option) => {
        const value = given[given.indexOf(option) + 1];
        return given.includes(option) && value !== undefined ? [option, value] : [];
    });
    return ["get-token", "--login", login, ...options];
}
