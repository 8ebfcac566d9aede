import { parseArgs } from "node:util";
import { type Azure, guid, same } from "./model";
import { registries } from "./registries";
import { roleAssignments, roleDefinitions } from "./roles";

/** What a command is given: the options after its words. */
type Options = Record<string, string | undefined>;

const usage = `Acts on the sandbox's Azure behind a stack's back, in the Azure CLI's words:
    login --username <name>                                   sign in as somebody else
    ad user list                                              who there is
    resource list                                             what there is
    role assignment list [--scope <id>]
    role assignment create --assignee <id> --role <name> --scope <id>
    role assignment delete --assignee <id> --role <name> --scope <id>
    acr update --name <name> --admin-enabled true|false
    config set propagation=<seconds> | latency=<factor of Azure's own>`;

/**
 * Runs a command on the model as the subscription's Owner, whoever is signed in.
 *
 * @param words the command and its options, such as `role assignment list --scope ...`.
 * @returns what to print.
 * @throws Error with the commands there are, or AzureError with what Azure says.
 */
export async function runAzureCommand(azure: Azure, words: string[]): Promise<string> {
    const names = ["username", "scope", "assignee", "role", "name", "admin-enabled"];
    const options = Object.fromEntries(names.map((name) => [name, { type: "string" as const }]));
    const { values, positionals } = parseArgs({ args: words, options, allowPositionals: true });
    const [command] = Object.keys(commands).filter((each) => positionals.join(" ").startsWith(each));
    if (command === undefined) throw new Error(usage);
    const rest = positionals.slice(command.split(" ").length);
    const result = await commands[command]?.(azure, values as Options, rest);
    return typeof result === "string" ? result : JSON.stringify(result, null, 2);
}

const commands: Record<string, (azure: Azure, options: Options, rest: string[]) => unknown> = {
    login: (azure, options) => azure.signIn(required(options, "username")),
    "ad user list": (azure) => azure.principals.map(({ name, objectId, type }) => ({ name, objectId, type })),
    "resource list": (azure) =>
        azure
            .resources()
            .filter(({ type }) => type !== roleAssignments.type)
            .map(({ id, type }) => ({ id, type })),
    "role assignment list": (azure, { scope }) => azure.list(roleAssignments.type, scope ?? ""),
    "role assignment create": (azure, options) => {
        const scope = required(options, "scope");
        const role = roleNamed(required(options, "role"));
        const assignee = required(options, "assignee");
        const principal = azure.find(assignee) ?? { objectId: assignee, type: "ServicePrincipal" };
        const subscription = /^\/subscriptions\/[^/]+/.exec(scope)?.[0];
        return azure.put(
            `${scope}/providers/${roleAssignments.type}/${guid(scope, principal.objectId, role)}`,
            {
                principalId: principal.objectId,
                principalType: principal.type,
                roleDefinitionId: `${subscription}/providers/Microsoft.Authorization/roleDefinitions/${role}`,
            },
            azure.owner,
        );
    },
    "role assignment delete": async (azure, options) => {
        const scope = required(options, "scope");
        const role = roleNamed(required(options, "role"));
        const assignee = required(options, "assignee");
        const principalId = azure.find(assignee)?.objectId ?? assignee;
        const found = azure
            .resources(roleAssignments.type, scope)
            .filter(
                ({ body }) => same(body.principalId, principalId) && body.roleDefinitionId.endsWith(role),
            );
        if (found.length === 0)
            throw new Error("There is no such role assignment; `role assignment list` shows all.");
        for (const { id } of found) await azure.delete(id, azure.owner);
        return `deleted ${found.map(({ id }) => id).join(", ")}`;
    },
    "acr update": async (azure, options) => {
        const name = required(options, "name");
        const registry = azure.resources(registries.type).find((each) => same(each.name, name));
        if (!registry) throw new Error(`There is no registry ${name}; \`resource list\` shows all.`);
        const adminUserEnabled = required(options, "admin-enabled") === "true";
        return azure.put(registry.id, { ...registry.body, adminUserEnabled }, azure.owner);
    },
    "config set": (azure, _, settings) => {
        for (const setting of settings) {
            const [name = "", value = ""] = setting.split("=");
            const number = Number(value);
            if (value === "" || !(number >= 0))
                throw new Error(`${setting} needs a number; say propagation=30 or latency=0.1.`);
            if (name === "propagation") azure.configure({ propagationSeconds: number });
            else if (name === "latency") azure.configure({ latency: number });
            else throw new Error(`${name} is not a setting; use propagation or latency.`);
        }
        const { propagationSeconds, latency } = azure.settings;
        return { propagation: propagationSeconds, latency };
    },
};

function required(options: Options, name: string): string {
    const value = options[name];
    if (value === undefined) throw new Error(`--${name} is missing.\n${usage}`);
    return value;
}

function roleNamed(name: string): string {
    const role = roleDefinitions.find((each) => same(each.name, name) || same(each.id, name));
    if (role) return role.id;
    throw new Error(
        `There is no role ${name}; use one of ${roleDefinitions.map((each) => each.name).join(", ")}.`,
    );
}
