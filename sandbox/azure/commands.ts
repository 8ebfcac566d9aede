import { randomUUID } from "node:crypto";
import { parseArgs } from "node:util";
import { agentPools, managedClusters } from "./clusters";
import { resourceGroups } from "./identities";
import { type Azure, type Principal, type Properties, type Resource, type Shown, same } from "./model";
import { registries } from "./registries";
import { grantAt, roleAssignments, roleDefinitions } from "./roles";

/** The Azure CLI's short forms. */
const short: Record<string, string> = {
    ...{ location: "l", name: "n", output: "o", "resource-group": "g", username: "u", yes: "y" },
    ...{ "node-count": "c", "node-vm-size": "s" },
};

/** Of every command: always JSON, and a path of property names; a text is printed as it is. */
const everywhere = "[--output json] [--query <path>]";

interface Command {
    /** Its options, the optional ones in brackets; those with a value have that behind them. */
    takes: string;
    /** Acts as an Owner, whoever is signed in. `rest` are the words behind the command's own. */
    run(azure: Azure, options: Properties, rest: string[]): unknown;
}

/**
 * Runs a command on the model as the subscriptions' Owner, whoever is signed in.
 *
 * @param words the command and its options, such as `role assignment list --scope ...`.
 * @returns what to print: JSON, as the Azure CLI prints it, or a sentence.
 * @throws Error with the commands there are or the option that is missing, or AzureError with what Azure says.
 */
export async function runAzureCommand(azure: Azure, words: string[]): Promise<string> {
    const [name, command] =
        Object.entries(commands).find(([each]) => `${words.join(" ")} `.startsWith(`${each} `)) ?? [];
    if (!name || !command) throw new Error(usage(words[0]));
    const { rest, given } = optionsOf(name, command, words.slice(name.split(" ").length));
    const answer = await command.run(azure, given, rest);
    const path: string[] = given.query?.split(".") ?? [];
    const result = path.reduce((value, key) => (value as Properties | undefined)?.[key], answer) ?? "";
    return typeof result === "string" ? result : JSON.stringify(result, null, 2);
}

/** The commands that begin with a word or, where none does, all. */
function usage(word = ""): string {
    const all = Object.entries(commands);
    const fitting = all.filter(([name]) => `${name} `.startsWith(`${word} `));
    const lines = (fitting.length > 0 ? fitting : all).map(([name, { takes }]) => `    ${name} ${takes}`);
    return `Acts on the sandbox's Azure behind a stack's back, in the Azure CLI's words (each takes ${everywhere}):\n${lines.map((line) => line.trimEnd()).join("\n")}`;
}

function optionsOf(name: string, { takes }: Command, args: string[]) {
    const options = Object.fromEntries(
        [...`${takes} ${everywhere}`.matchAll(/--([\w-]+)(\]| --|$)?/g)].map(([, each = "", flag]) => [
            each,
            {
                type: flag === undefined ? "string" : "boolean",
                ...(short[each] && { short: short[each] }),
            } as const,
        ]),
    );
    try {
        const { values, positionals: rest } = parseArgs({ args, options, allowPositionals: true });
        const required = takes.replace(/\[[^\]]*\]/g, "").matchAll(/--([\w-]+)/g);
        const missing = [...required].find(([, each = ""]) => !(each in values))?.[0];
        if (missing) throw new Error(`${missing} is missing:`);
        if (rest.length > 0 && !/^\w/.test(takes)) throw new Error(`${rest[0]} does not fit here:`);
        return { rest, given: values as Properties };
    } catch (error) {
        throw new Error(`${(error as Error).message}\n    ${name} ${takes}`);
    }
}

const subscribed = "[--subscription <id or name>]";
const where = `--name <name> --resource-group <group> ${subscribed}`;
const within = `[--resource-group <group>] ${subscribed}`;
const there = `--name <name> ${within}`;
const entra = "[--enable-aad] [--aad-admin-group-object-ids <ids with commas>] [--enable-azure-rbac]";
const grant =
    "--role <name or GUID> --scope <id> [--assignee <name or id>] [--assignee-object-id <id>] [--assignee-principal-type <type>]";

const commands: Record<string, Command> = {
    login: {
        takes: "[--username <name>]",
        run: (azure, { username }) => azure.signIn(username || azure.owner.objectId),
    },
    logout: {
        takes: "",
        run(azure) {
            azure.configure({ signedInAs: "" });
            return "Nobody is signed in now.";
        },
    },
    "account list": {
        takes: "",
        run: (azure) =>
            azure.subscriptions.map((each) => ({ ...each, isDefault: each.id === azure.subscriptionId })),
    },
    "ad user list": principals("User"),
    "ad group list": principals("Group"),
    "ad sp list": principals("ServicePrincipal"),
    "ad sp show": {
        takes: "--id <application or object id>",
        run: (azure, { id }) => shownPrincipal(azure.principal(id)),
    },
    "ad sp create-for-rbac": {
        takes: "--name <name>",
        run(azure, { name }) {
            // A second time gives the same one, as in the Azure CLI; there is no password, for nothing takes one here.
            if (!azure.find(name)) {
                const [objectId, clientId] = [randomUUID(), randomUUID()];
                azure.addPrincipal({ objectId, clientId, name, type: "ServicePrincipal" });
            }
            return { ...shownPrincipal(azure.principal(name)), tenant: azure.tenantId };
        },
    },
    "resource list": {
        takes: "",
        run(azure) {
            const others = azure.resources().filter(({ type }) => type !== roleAssignments.type);
            return others.map(({ id, type }) => ({ id, type }));
        },
    },
    "group create": {
        takes: `--name <name> --location <region> ${subscribed}`,
        run: (azure, { name, location, subscription }) =>
            azure.put(groupId(azure, name, subscription), { location }, azure.owner),
    },
    "group list": { takes: subscribed, run: listing(resourceGroups.type) },
    "group delete": {
        takes: `--name <name> ${subscribed} [--yes]`,
        run: (azure, { name, subscription }) => remove(azure, groupId(azure, name, subscription)),
    },
    "role assignment list": {
        takes: "[--scope <id>]",
        run: (azure, { scope }) => azure.list(roleAssignments.type, scope, azure.owner),
    },
    "role assignment create": {
        takes: grant,
        run: (azure, options) => assign(azure, options.scope, grantIn(azure, options)),
    },
    "role assignment delete": {
        takes: grant,
        run(azure, options) {
            const found = grantAt(azure, options.scope, grantIn(azure, options));
            if (!found)
                throw new Error("There is no such role assignment; `role assignment list` shows all.");
            return remove(azure, found.id);
        },
    },
    "acr create": {
        takes: `${where} [--sku Basic|Standard|Premium] [--role-assignment-mode rbac|rbac-abac] [--dnl-scope Unsecure|TenantReuse|SubscriptionReuse|ResourceGroupReuse|NoReuse] [--location <region>]`,
        async run(azure, options) {
            const id = idIn(azure, registries.type, options);
            const { location = locationOf(azure, id), sku = "Basic", "dnl-scope": scope } = options;
            const placed = { location, sku: { name: sku }, autoGeneratedDomainNameLabelScope: scope };
            await azure.put(id, { ...placed, ...modeIn(options) }, azure.owner);
            return shownRegistry(azure, id);
        },
    },
    "acr update": {
        takes: `${there} [--admin-enabled true|false] [--role-assignment-mode rbac|rbac-abac]`,
        async run(azure, options) {
            const { id, body } = find(azure, registries.type, options);
            const admin = options["admin-enabled"];
            const changes = { ...(admin && { adminUserEnabled: admin === "true" }), ...modeIn(options) };
            await azure.put(id, { ...body, ...changes }, azure.owner);
            return shownRegistry(azure, id);
        },
    },
    "acr show": {
        takes: there,
        run: (azure, options) => shownRegistry(azure, find(azure, registries.type, options).id),
    },
    // The one command that needs the registry itself: services.ts answers it.
    "acr login": {
        takes: "--name <name>",
        run: () => {
            throw new Error("acr login takes nothing but --name.");
        },
    },
    "acr list": { takes: within, run: listing(registries.type) },
    "acr delete": {
        takes: `${there} [--yes]`,
        run: (azure, options) => remove(azure, find(azure, registries.type, options).id),
    },
    "aks create": {
        takes: `${where} [--node-vm-size <size>] [--node-count <number>] [--service-principal <appId>] ${entra} [--disable-local-accounts] [--attach-acr <name or id>] [--location <region>]`,
        async run(azure, options) {
            const id = idIn(azure, managedClusters.type, options);
            const attached = options["attach-acr"] && registryId(azure, options);
            await azure.put(id, clusterIn(azure, id, options), azure.owner);
            if (attached) await attach(azure, id, attached);
            return azure.get(id, azure.owner);
        },
    },
    "aks show": {
        takes: where,
        run: (azure, options) => azure.get(idIn(azure, managedClusters.type, options), azure.owner),
    },
    "aks list": { takes: within, run: listing(managedClusters.type) },
    "aks update": {
        takes: `${where} [--attach-acr <name or id>] ${entra}`,
        async run(azure, options) {
            const { id, body } = find(azure, managedClusters.type, options);
            if (options["attach-acr"]) await attach(azure, id, registryId(azure, options));
            if (options["enable-aad"]) await azure.put(id, { ...body, ...entraIn(options) }, azure.owner);
            return azure.get(id, azure.owner);
        },
    },
    "aks stop": { takes: where, run: powering("Stopped") },
    "aks start": { takes: where, run: powering("Running") },
    "aks delete": {
        takes: `${where} [--yes]`,
        run: (azure, options) => remove(azure, idIn(azure, managedClusters.type, options)),
    },
    // As somebody does by hand, or the autoscaler by itself.
    "aks nodepool scale": {
        takes: `--cluster-name <name> ${where} --node-count <number>`,
        async run(azure, { "cluster-name": cluster, name, ...options }) {
            const id = `${idIn(azure, managedClusters.type, { ...options, name: cluster })}/agentPools/${name}`;
            const pool = azure.resources(agentPools.type).find((each) => same(each.id, id));
            if (!pool) throw new Error(`There is no node pool ${name} in a cluster ${cluster} there.`);
            return await azure.put(id, { ...pool.body, count: nodesIn(options) }, azure.owner);
        },
    },
    "config set": {
        takes: "propagation=<seconds> | latency=<factor of Azure's own>",
        run(azure, _, settings) {
            for (const setting of settings) {
                const [, name, value] = /^(propagation|latency)=(\d*\.?\d+)$/.exec(setting) ?? [];
                if (!name) throw new Error(`${setting} does not fit; say propagation=30 or latency=0.1.`);
                azure.configure({ [name === "latency" ? name : "propagationSeconds"]: Number(value) });
            }
            const { propagationSeconds, latency } = azure.settings;
            return { propagation: propagationSeconds, latency };
        },
    },
};

function groupId(azure: Azure, name = "", subscription = azure.subscriptionId): string {
    const named = azure.subscriptions.find((each) => same(each.name, subscription))?.id;
    return `/subscriptions/${named ?? subscription}/resourceGroups/${name}`;
}

function idIn(azure: Azure, type: string, { name, "resource-group": group, subscription }: Properties) {
    return `${groupId(azure, group, subscription)}/providers/${type}/${name}`;
}

function listing(type: string): Command["run"] {
    return (azure, { "resource-group": group, subscription }) => {
        const below = group || subscription ? groupId(azure, group, subscription) : "";
        return azure.list(type, below.replace(/\/resourceGroups\/$/, ""), azure.owner);
    };
}

function powering(code: "Running" | "Stopped"): Command["run"] {
    return (azure, options) => azure.setPower(idIn(azure, managedClusters.type, options), code, azure.owner);
}

/** What the options name; where they name no resource group, in any. */
function find(azure: Azure, type: string, options: Properties): Resource {
    const { name, "resource-group": group } = options;
    const id = idIn(azure, type, options);
    const found = azure.resources(type).find((each) => (group ? same(each.id, id) : same(each.name, name)));
    if (found) return found;
    throw new Error(`There is no ${type} called ${name} there; \`resource list\` shows all.`);
}

function locationOf(azure: Azure, id: string): string {
    return azure.get(id.split("/providers/")[0] ?? "", azure.owner).location;
}

async function remove(azure: Azure, id: string): Promise<string> {
    await azure.delete(id, azure.owner);
    return `deleted ${id}`;
}

function principals(type: Principal["type"]): Command {
    const run = (azure: Azure) => azure.principals.filter((each) => each.type === type).map(shownPrincipal);
    return { takes: "", run };
}

/** As Microsoft Graph names it. */
function shownPrincipal({ objectId, name, type, clientId, members }: Principal) {
    const nameKey = type === "User" ? "userPrincipalName" : "displayName";
    return { appId: clientId, [nameKey]: name, id: objectId, members };
}

/** With what only newer API versions show. */
function shownRegistry(azure: Azure, id: string) {
    const {
        roleAssignmentMode = "LegacyRegistryPermissions",
        autoGeneratedDomainNameLabelScope = "Unsecure",
    } = azure.resource(id)?.body ?? {};
    return { ...azure.get(id, azure.owner), roleAssignmentMode, autoGeneratedDomainNameLabelScope };
}

function modeIn({ "role-assignment-mode": mode }: Properties): Properties {
    if (!mode) return {};
    if (mode === "rbac") return { roleAssignmentMode: "LegacyRegistryPermissions" };
    if (mode === "rbac-abac") return { roleAssignmentMode: "AbacRepositoryPermissions" };
    throw new Error(`--role-assignment-mode is ${mode}; use rbac or rbac-abac.`);
}

function nodesIn({ "node-count": nodes = 3 }: Properties): number {
    if (!/^\d+$/.test(nodes)) throw new Error(`--node-count is ${nodes}; use a number.`);
    return Number(nodes);
}

/** A cluster's body with the Azure CLI's defaults. */
function clusterIn(azure: Azure, id: string, options: Properties): Properties {
    const [, , subscription = "", , group = ""] = id.split("/");
    const { "node-vm-size": vmSize = "Standard_D4s_v5" } = options;
    const { location = locationOf(azure, id), "service-principal": clientId } = options;
    const count = nodesIn(options);
    return {
        location,
        dnsPrefix: `${options.name.slice(0, 10)}-${group.slice(0, 16)}-${subscription.slice(0, 6)}`,
        ...(clientId ? { servicePrincipalProfile: { clientId } } : { identity: { type: "SystemAssigned" } }),
        agentPoolProfiles: [{ name: "nodepool1", mode: "System", count, vmSize }],
        ...entraIn(options),
        ...(options["disable-local-accounts"] && { disableLocalAccounts: true }),
    };
}

function entraIn(options: Properties): Properties {
    if (!options["enable-aad"]) return {};
    const groups = options["aad-admin-group-object-ids"];
    return {
        aadProfile: {
            managed: true,
            enableAzureRBAC: options["enable-azure-rbac"] ?? false,
            ...(groups && { adminGroupObjectIDs: groups.split(",") }),
        },
    };
}

function registryId(azure: Azure, options: Properties): string {
    const given = options["attach-acr"];
    if (given.startsWith("/")) return given;
    return find(azure, registries.type, { ...options, name: given, "resource-group": "" }).id;
}

/** Lets the identity that a cluster pulls as pull from a registry. */
async function attach(azure: Azure, clusterId: string, scope: string): Promise<void> {
    const { identityProfile, servicePrincipalProfile } = azure.get(clusterId, azure.owner);
    const { clientId } = identityProfile?.kubeletidentity ?? servicePrincipalProfile;
    const principalId = azure.principal(clientId).objectId;
    const roleDefinitionId = roleNamed("AcrPull");
    await assign(azure, scope, { principalId, principalType: "ServicePrincipal", roleDefinitionId });
}

/** Assigns a role, unless somebody did so before; the name is random, as the Azure CLI makes it. */
async function assign(azure: Azure, scope: string, body: Properties): Promise<Shown> {
    const existing = grantAt(azure, scope, body);
    if (existing) return azure.get(existing.id, azure.owner);
    const subscription = /^\/subscriptions\/[^/]+/i.exec(scope)?.[0] ?? "";
    const roleDefinitionId = `${subscription}/providers/Microsoft.Authorization/roleDefinitions/${body.roleDefinitionId}`;
    const id = `${scope}/providers/${roleAssignments.type}/${randomUUID()}`;
    return await azure.put(id, { ...body, roleDefinitionId }, azure.owner);
}

/** Who is to get which role; with an object id nobody is looked up. */
function grantIn(azure: Azure, options: Properties): Properties {
    const roleDefinitionId = roleNamed(options.role);
    const { assignee, "assignee-object-id": objectId, "assignee-principal-type": type } = options;
    if (!assignee && !objectId) throw new Error("--assignee or --assignee-object-id is missing.");
    const principal = azure.find(objectId ?? assignee);
    if (objectId) return { principalId: objectId, principalType: type ?? principal?.type, roleDefinitionId };
    if (principal)
        return { principalId: principal.objectId, principalType: principal.type, roleDefinitionId };
    const instead = "An unknown one can be named with --assignee-object-id and --assignee-principal-type.";
    const problem = `Cannot find user or service principal in graph database for '${assignee}'.`;
    throw new Error(`${problem} ${instead}`);
}

/** GUID of a role by its name, its GUID or its resource id. */
function roleNamed(name: string): string {
    const guid = name.split("/").at(-1) ?? "";
    const role = roleDefinitions.find((each) => same(each.name, name) || same(each.id, guid));
    if (role) return role.id;
    const names = roleDefinitions.map((each) => each.name).join(", ");
    throw new Error(`There is no role ${name}; use one of ${names}.`);
}
