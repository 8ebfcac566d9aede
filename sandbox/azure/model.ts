import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Properties } from "../provider";
import { agentPools, checkPower, managedClusters, userKubeconfig } from "./clusters";
import { AzureError } from "./errors";
import { resourceGroups, userAssignedIdentities } from "./identities";
import type { Infrastructure } from "./infrastructure";
import { registries } from "./registries";
import { allowed, onlyRoles, roleAssignments, roleDefinitions } from "./roles";

// Of a resource as azure-native has them: what ARM nests in `properties` is at the top.
export type { Properties };

/** A resource as it is kept. */
export interface Resource {
    id: string;
    name: string;
    /** As in resource ids, e.g. `Microsoft.ContainerRegistry/registries`. */
    type: string;
    /** What the last PUT said. */
    body: Properties;
    /** What the service decided. */
    computed: Properties;
    provisioningState: "Creating" | "Updating" | "Deleting" | "Succeeded";
}

/** Someone who can hold roles. */
export interface Principal {
    /** Object id: what role assignments call principal id. */
    objectId: string;
    /** Sign-in name of a user, display name of others. */
    name: string;
    type: "User" | "ServicePrincipal" | "Group";
    /** Application id of a service principal. */
    clientId?: string;
    /** Object ids of those who are in a group. */
    members?: string[];
}

/** A subscription that a request may name. */
export interface Subscription {
    id: string;
    name: string;
    /** Directory whose tokens it takes. */
    tenantId: string;
}

/** How the model behaves; may change at any time. */
export interface Settings {
    /** Object id of the principal that requests come from; empty for nobody. Default: an Owner of the subscriptions. */
    signedInAs: string;
    /** Seconds until a new role assignment has an effect; Azure takes 30 to 600. Default: 0. */
    propagationSeconds: number;
    /** Factor on Azure's typical durations; 1 is as slow as Azure. Default: 0. */
    latency: number;
}

/** All that the model knows, as JSON; holds no secret. */
export interface State {
    principals: Principal[];
    settings: Settings;
    resources: Resource[];
}

type Operation = "create" | "update" | "delete";

/** One kind of resource. */
export interface ResourceType {
    type: string;
    /** The service's rule on names. */
    name: RegExp;
    /** Seconds that Azure typically takes. */
    seconds: Record<Operation, number>;
    /** Beginning of its actions. Default: the type. */
    action?: string;
    /** Whether it needs a location. Default: true. */
    located?: boolean;
    /** Throws what the service refuses; nothing has changed yet. `previous` is undefined for a new resource. */
    validate?(azure: Azure, resource: Resource, previous: Resource | undefined): void;
    /** Does what it takes, and sets what is computed. `previous` is the resource itself where it is only started again. */
    apply?(azure: Azure, resource: Resource, previous: Resource | undefined): Promise<void> | void;
    /** What a GET shows beside id, name and type. Default: computed and body. */
    view?(azure: Azure, resource: Resource): Properties;
    /** Takes away what stands behind it. */
    remove?(azure: Azure, resource: Resource): Promise<void> | void;
}

// A function, because the modules of the types import this one.
const types = () => [
    resourceGroups,
    userAssignedIdentities,
    roleAssignments,
    registries,
    managedClusters,
    agentPools,
];

/**
 * Seconds that Azure typically takes, by resource type: clusters and registries from public logs (3.5 to 15 minutes,
 * 8 to 60 s), the rest unconfirmed, of the order that users report.
 */
export function durations(): Record<string, Record<Operation, number>> {
    return Object.fromEntries(types().map(({ type, seconds }) => [type, seconds]));
}

/** What the model needs from outside. */
export interface AzureOptions {
    infrastructure: Infrastructure;
    /** What `toJSON` gave before. Default: a tenant with two subscriptions and a person for each way of holding roles. */
    state?: State | undefined;
    /** Waits so many milliseconds. */
    sleep?: (milliseconds: number) => Promise<unknown>;
    /** Milliseconds since 1970. */
    now?: () => number;
    /** Called after each change, to save it. */
    onChange?: () => void;
}

/** What a GET answers. */
export type Shown = Properties & { id: string; name: string; type: string };

/** A model of Azure Resource Manager and of the services that the program uses. Every refusal is an {@link AzureError}. */
export class Azure {
    readonly infrastructure: Infrastructure;
    readonly now: () => number;
    /** Kubeconfig by cluster id in lower case; secret, so not part of the state. */
    readonly kubeconfigs = new Map<string, string>();
    private readonly onChange: () => void;
    private readonly sleep: (milliseconds: number) => Promise<unknown>;
    private readonly state: State;
    readonly tenantId = guid("tenant");
    /** All that can be told apart from unknown ones: the tenant's own, and one of another tenant, which ours has no token for. */
    readonly subscriptions: Subscription[] = [
        { id: guid("subscription"), name: "first", tenantId: this.tenantId },
        { id: guid("subscription", "second"), name: "second", tenantId: this.tenantId },
        { id: guid("subscription", "elsewhere"), name: "elsewhere", tenantId: guid("tenant", "elsewhere") },
    ];
    /** The caller's default subscription. */
    readonly subscriptionId = guid("subscription");

    constructor(options: AzureOptions) {
        this.infrastructure = options.infrastructure;
        this.now = options.now ?? Date.now;
        this.sleep = options.sleep ?? sleep;
        this.onChange = options.onChange ?? (() => undefined);
        this.state = structuredClone(options.state ?? newTenant());
        // Operations ended with the process that ran them; what was being created has to be created again.
        for (const lost of this.state.resources.filter((each) => each.provisioningState === "Creating"))
            for (const { id, body } of this.state.resources)
                if (id === lost.id || body.managedBy === lost.id) this.forget(id);
        for (const each of this.state.resources) each.provisioningState = "Succeeded";
    }

    toJSON(): State {
        return structuredClone(this.state);
    }

    get settings(): Readonly<Settings> {
        return this.state.settings;
    }

    configure(settings: Partial<Settings>): void {
        Object.assign(this.state.settings, settings);
        this.onChange();
    }

    get principals(): readonly Principal[] {
        return this.state.principals;
    }

    /** Who requests come from. Throws as {@link checkSignedIn}. */
    get caller(): Principal {
        this.checkSignedIn();
        return this.principal(this.settings.signedInAs);
    }

    /** @throws Error where nobody is signed in: what `az account show` says then, which azure-native passes on (unconfirmed for 3.28). */
    checkSignedIn(): void {
        if (!this.settings.signedInAs) throw new Error("ERROR: Please run 'az login' to setup account.");
    }

    /** An Owner of the subscriptions, to act behind a stack's back whoever is signed in. */
    get owner(): Principal {
        return this.principal("owner@example.com");
    }

    /** Makes requests come from this principal. @param who as for {@link principal}. */
    signIn(who: string): Principal {
        this.configure({ signedInAs: this.principal(who).objectId });
        return this.caller;
    }

    /** A user or service principal by object id, client id or name. @throws Error that lists the names there are. */
    principal(who: string): Principal {
        const found = this.find(who);
        if (found && found.type !== "Group") return found;
        const names = this.principals.flatMap(({ name, type }) => (type === "Group" ? [] : [name]));
        throw new Error(`Nobody in the directory is called ${who}. Use one of ${names.join(", ")}.`);
    }

    /** A principal by object id, client id or name, or undefined. */
    find(who: string): Principal | undefined {
        const named = ({ objectId, clientId = "", name }: Principal) =>
            [objectId, clientId, name].some((each) => same(each, who));
        return this.principals.find(named);
    }

    /** Object ids of the groups that the principal is a member of. */
    groupsOf(objectId: string): string[] {
        return this.principals
            .filter(({ members = [] }) => members.some((each) => same(each, objectId)))
            .map((group) => group.objectId);
    }

    addPrincipal(principal: Principal): void {
        this.state.principals.push(principal);
        this.onChange();
    }

    removePrincipal(objectId: string): void {
        this.state.principals = this.principals.filter((each) => each.objectId !== objectId);
    }

    /** All resources of a type, at or below an id. */
    resources(type?: string, below = ""): Resource[] {
        const all = this.state.resources.filter(({ id }) => contains(below, id));
        return type === undefined ? all : all.filter((each) => each.type === type);
    }

    /** A resource by id, whoever asks. */
    resource(id: string): Resource | undefined {
        return this.state.resources.find((each) => same(each.id, id));
    }

    /** Keeps a resource without asking anybody: for what a service makes by itself. */
    store(resource: Resource): void {
        const index = this.state.resources.findIndex((each) => same(each.id, resource.id));
        if (index < 0) this.state.resources.push(resource);
        else this.state.resources[index] = resource;
        this.onChange();
    }

    get(id: string, caller = this.caller): Shown {
        return this.show(this.existing(id, caller, "read"));
    }

    /** What a GET answers for all resources of a type, at or below an id, that the caller may read. */
    list(type?: string, below = "", caller = this.caller): Shown[] {
        const readable = this.resources(type, below).filter((each) =>
            allowed(this, caller.objectId, { action: `${each.type}/read`, scope: each.id }),
        );
        return readable.map((each) => this.show(each));
    }

    /** Creates a resource, or replaces what an earlier PUT said. */
    async put(id: string, body: Properties, caller = this.caller): Promise<Shown> {
        const type = this.locate(id, caller, "write", body);
        const previous = this.resource(id);
        const resource: Resource = {
            ...kept(previous?.id ?? id, type.type, structuredClone(body)),
            computed: structuredClone(previous?.computed ?? {}),
            provisioningState: previous ? "Updating" : "Creating",
        };
        if (!type.name.test(nameOf(id))) {
            const message = `Resource name ${nameOf(id)} is invalid; it must match ${type.name.source}.`;
            throw new AzureError(400, "InvalidResourceName", message);
        }
        if (type.located !== false) checkLocation(resource, previous);
        type.validate?.(this, resource, previous);
        this.store(resource);
        try {
            const operation = previous ? "update" : "create";
            await this.during(operation, type, type.apply?.(this, resource, previous));
        } catch (error) {
            if (previous) this.store(previous);
            else await Promise.resolve(type.remove?.(this, resource)).finally(() => this.forget(id));
            this.onChange();
            throw error;
        }
        resource.provisioningState = "Succeeded";
        this.onChange();
        return this.show(resource);
    }

    /** Deletes a resource and what is inside it. Refused with status 404 where there is none. */
    async delete(id: string, caller = this.caller): Promise<void> {
        const resource = this.existing(id, caller, "delete");
        resource.provisioningState = "Deleting";
        this.onChange();
        const removals = this.resources(undefined, id).map((each) => {
            const type = typeOf(each.id);
            return this.during("delete", type, type.remove?.(this, each));
        });
        await Promise.all(removals);
        this.forget(id);
        this.onChange();
    }

    /** Kubeconfigs of a cluster as AKS lists them, in base64; of a stopped one, too. */
    clusterUserCredentials(id: string, caller = this.caller): { name: string; value: string }[] {
        const cluster = this.existing(id, caller, "listClusterUserCredential/action");
        const kubeconfig = userKubeconfig(this, cluster);
        return [{ name: "clusterUser", value: Buffer.from(kubeconfig).toString("base64") }];
    }

    /**
     * Whom a token of Microsoft Entra ID stands for at the cluster's API server: the object id, and the ids of its groups,
     * with `system:masters` for the cluster's administrators. Undefined for somebody unknown, and at a cluster without
     * Microsoft Entra.
     */
    clusterUser(clusterId: string, objectId: string): { username: string; groups: string[] } | undefined {
        const { aadProfile } = this.resource(clusterId)?.body ?? {};
        const username = this.principals.find((each) => same(each.objectId, objectId))?.objectId;
        if (!aadProfile || !username) return undefined;
        const groups = this.groupsOf(objectId);
        const administrators: string[] = aadProfile.adminGroupObjectIDs ?? [];
        const named = [objectId, ...groups].some((each) => administrators.some((other) => same(each, other)));
        const everything = { action: `${managedClusters.type}/*`, scope: clusterId, data: true };
        const administers = named || (aadProfile.enableAzureRBAC && allowed(this, objectId, everything));
        return { username, groups: administers ? [...groups, "system:masters"] : groups };
    }

    /**
     * Stops or starts a cluster, which shows as its power state only: the node behind the model runs on, so that starting
     * takes no time.
     */
    async setPower(id: string, code: "Running" | "Stopped", caller = this.caller): Promise<Shown> {
        const verb = code === "Stopped" ? "stop" : "start";
        const cluster = this.existing(id, caller, `${verb}/action`);
        checkPower(cluster, code === "Stopped" ? "stopping" : "starting", code);
        await this.during("update", managedClusters);
        cluster.computed.powerState = { code };
        this.onChange();
        return this.show(cluster);
    }

    /** Whether the principal's roles let it pull from the registry now. */
    canPull(principalId: string, registryId: string): boolean {
        return this.canUse(principalId, registryId, "pull/read", "repositories/content/read");
    }

    /** Whether the principal's roles let it push to the registry now. */
    canPush(principalId: string, registryId: string): boolean {
        return this.canUse(principalId, registryId, "push/write", "repositories/content/write");
    }

    /** Starts again what a restarted machine has stopped: registries and clusters. */
    async resume(): Promise<void> {
        const stopped = [registries, managedClusters].flatMap((type) =>
            this.resources(type.type).map((each) => type.apply?.(this, each, each)),
        );
        await Promise.all(stopped);
        this.onChange();
    }

    /** A registry in ABAC mode heeds data actions only, any other actions only. */
    private canUse(principalId: string, registryId: string, action: string, dataAction: string): boolean {
        const data = this.resource(registryId)?.body.roleAssignmentMode === "AbacRepositoryPermissions";
        const wanted = `${registries.type}/${data ? dataAction : action}`;
        return allowed(this, principalId, { action: wanted, scope: registryId, data });
    }

    /** The resource that the caller may do this to. */
    private existing(id: string, caller: Principal, verb: string): Resource {
        const resource = this.resource(id);
        this.locate(id, caller, verb, resource?.body);
        if (resource) return resource;
        throw notFound(id);
    }

    /** Checks what comes before the service itself: subscription, the caller's roles, resource group. */
    private locate(id: string, caller: Principal, verb: string, body: Properties = {}): ResourceType {
        const { roleDefinitionId } = body;
        const type = typeOf(id);
        const [, subscription = "", group] = place(id);
        const found = this.subscriptions.find((each) => same(each.id, subscription));
        if (!found) {
            const message = `The subscription '${subscription}' could not be found.`;
            throw new AzureError(404, "SubscriptionNotFound", message);
        }
        if (found.tenantId !== this.tenantId) {
            const [issuer, theirs] = [this.tenantId, found.tenantId];
            const message = `The access token is from the wrong issuer 'https://sts.windows.net/${issuer}/'. It must match the tenant 'https://sts.windows.net/${theirs}/' associated with this subscription. Please use the authority (URL) 'https://login.windows.net/${theirs}' to get the token. Note, if the subscription is transferred to another tenant there is no impact to the services, but information about new tenant could take time to propagate (up to an hour). If you just transferred your subscription and see this error message, please try back later.`;
            throw new AzureError(401, "InvalidAuthenticationTokenTenant", message);
        }
        const action = `${type.action ?? type.type}/${verb}`;
        const scope = type === resourceGroups ? id.replace("/resourceGroups/", "/resourcegroups/") : id;
        if (!allowed(this, caller.objectId, { action, scope, roleDefinitionId })) {
            const abac = action.endsWith("/roleAssignments/write")
                ? "or an ABAC condition not fulfilled "
                : "";
            const message = `The client '${caller.name}' with object id '${caller.objectId}' does not have authorization ${abac}to perform action '${action}' over scope '${scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.`;
            throw new AzureError(403, "AuthorizationFailed", message);
        }
        const exists = !group || this.resource(`/subscriptions/${subscription}/resourceGroups/${group}`);
        if (exists || (type === resourceGroups && verb === "write")) return type;
        throw new AzureError(404, "ResourceGroupNotFound", `Resource group '${group}' could not be found.`);
    }

    private show(resource: Resource): Shown {
        const { id, name, type } = resource;
        const shown = typeOf(id).view?.(this, resource) ?? { ...resource.computed, ...resource.body };
        return structuredClone({ ...shown, id, name, type });
    }

    /** Removes a resource and what is inside it from the state. */
    private forget(id: string): void {
        this.state.resources = this.state.resources.filter((each) => !contains(id, each.id));
    }

    /** Takes as long as the work, and at least as long as Azure would at the current latency. */
    private async during(operation: Operation, { seconds }: ResourceType, work?: Promise<void> | void) {
        const time = seconds[operation] * this.settings.latency * 1000;
        await Promise.all([work, time > 0 && this.sleep(time)]);
    }
}

/** Whether two names or ids are the same; Azure ignores their case. */
export function same(one: string, other: string): boolean {
    return one.toLowerCase() === other.toLowerCase();
}

/** Whether an id is a scope or lies below it. */
export function contains(scope: string, id: string): boolean {
    return `${id}/`.toLowerCase().startsWith(`${scope}/`.replace("//", "/").toLowerCase());
}

/** A GUID that is always the same for the same words. */
export function guid(...words: string[]): string {
    const hash = createHash("sha256").update(words.join("|")).digest("hex");
    return hash.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, "$1-$2-4$3-a$4-$5");
}

/** The error for a resource that is not there. */
export function notFound(id: string): AzureError {
    const path = (id.split("/providers/").at(-1) ?? "").split("/");
    const names = path.filter((_, index) => index > 0 && index % 2 === 0).join("/");
    const message = `The Resource '${typeOf(id).type}/${names}' under resource group '${place(id)[2]}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix`;
    return new AzureError(404, "ResourceNotFound", message);
}

/** The type of the resource with this id. */
export function typeOf(id: string): ResourceType {
    const [, ...providers] = id.split("/providers/");
    const parts = providers.at(-1)?.split("/");
    const type = parts?.filter((_, index) => index === 0 || index % 2 === 1).join("/") ?? resourceGroups.type;
    const found = types().find((each) => same(each.type, type));
    if (found) return found;
    throw new AzureError(404, "InvalidResourceType", `The resource type '${type}' could not be found.`);
}

/** Subscription and resource group of an id, behind the whole match. */
function place(id: string): string[] {
    return [...(/^\/subscriptions\/([^/]*)(?:\/resourceGroups\/([^/]*))?/i.exec(id) ?? [])];
}

function nameOf(id: string): string {
    return id.split("/").at(-1) ?? "";
}

/** A resource that a service makes by itself. */
export function kept(id: string, type: string, body: Properties): Resource {
    return { id, name: nameOf(id), type, body, computed: {}, provisioningState: "Succeeded" };
}

function checkLocation({ id, name, type, body }: Resource, previous: Resource | undefined): void {
    if (!body.location) {
        const message = "The location property is required for this definition.";
        throw new AzureError(400, "LocationRequired", message);
    }
    // Azure takes "West Europe" for westeurope.
    body.location = body.location.replace(/ /g, "").toLowerCase();
    const before = previous?.body.location ?? body.location;
    if (before === body.location) return;
    if (type === resourceGroups.type) {
        const message = `Invalid resource group location '${body.location}'. The Resource group already exists in location '${before}'.`;
        throw new AzureError(409, "InvalidResourceGroupLocation", message);
    }
    const message = `The resource '${name}' already exists in location '${before}' in resource group '${place(id)[2]}'. A resource with the same name cannot be created in location '${body.location}'. Please select a new resource name.`;
    throw new AzureError(409, "InvalidResourceLocation", message);
}

/** A tenant with two subscriptions, and people and a pipeline that hold built-in roles on both. */
function newTenant(): State {
    const subscriptions = [guid("subscription"), guid("subscription", "second")];
    const people: Record<string, string[]> = {
        owner: ["Owner"],
        contributor: ["Contributor"],
        reader: ["Reader"],
        "access-administrator": ["Contributor", "User Access Administrator"],
        "role-administrator": ["Contributor", "Role Based Access Control Administrator"],
    };
    const users = Object.keys(people).map(
        (who): Principal => ({ objectId: guid(who), name: `${who}@example.com`, type: "User" }),
    );
    const deployer: Principal = {
        ...{ objectId: guid("deployer"), clientId: guid("deployer", "client") },
        ...{ name: "deployer", type: "ServicePrincipal" },
    };
    const administrators: Principal = {
        ...{ objectId: guid("platform-admins"), name: "platform-admins", type: "Group" },
        members: [guid("owner"), deployer.objectId],
    };
    const condition = onlyRoles(
        ...["AcrPull", "Container Registry Repository Reader"],
        ...["Managed Identity Operator", "Network Contributor"],
    );
    const holders = Object.entries({ ...people, deployer: people["role-administrator"] ?? [] });
    const resources = subscriptions.flatMap((subscription) =>
        holders.flatMap(([who, held]) =>
            held.map((role) => {
                const scope = `/subscriptions/${subscription}`;
                const id = `${scope}/providers/${roleAssignments.type}/${guid(who, role, subscription)}`;
                const roleId = roleDefinitions.find((each) => each.name === role)?.id;
                const body = {
                    principalId: guid(who),
                    principalType: who === deployer.name ? deployer.type : "User",
                    roleDefinitionId: `${scope}/providers/Microsoft.Authorization/roleDefinitions/${roleId}`,
                    ...(role.startsWith("Role Based") && { condition, conditionVersion: "2.0" }),
                };
                return { ...kept(id, roleAssignments.type, body), computed: { effectiveAt: 0 } };
            }),
        ),
    );
    return {
        principals: [...users, deployer, administrators],
        settings: { signedInAs: guid("owner"), propagationSeconds: 0, latency: 0 },
        resources,
    };
}
