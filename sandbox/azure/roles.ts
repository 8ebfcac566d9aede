import { AzureError } from "./errors";
import {
    type Azure,
    contains,
    notFound,
    type Properties,
    type Resource,
    type ResourceType,
    same,
} from "./model";

const guidPattern = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;
const assignments = "Microsoft.Authorization/roleAssignments";
const identities = "Microsoft.ManagedIdentity/userAssignedIdentities";
const registry = "Microsoft.ContainerRegistry/registries";
const [pull, push] = [`${registry}/pull/read`, `${registry}/push/write`];
const cluster = "Microsoft.ContainerService/managedClusters";
const [readContent, writeContent] = ["read", "write"].map(
    (verb) => `data ${registry}/repositories/content/${verb}`,
);

/** Built-in roles ("Azure built-in roles") with the actions that matter here; `not` and `data` mark those that are none. */
const builtIn = `
8e3af657-a8ff-443c-a75c-2fe8c4bcb635 Owner: *
b24988ac-6180-42a0-ab88-20f7382dd24c Contributor: *, not Microsoft.Authorization/*/delete, not Microsoft.Authorization/*/write
acdd72a7-3385-48ef-bd42-f606fba81ae7 Reader: */read
18d7d88d-d35e-4fb5-a5c3-7773c20a72d9 User Access Administrator: */read, Microsoft.Authorization/*
f58310d9-a9f6-439a-9e8d-f62e7b41a168 Role Based Access Control Administrator: */read, ${assignments}/*
f1a07417-d97a-45cb-824c-7a7467783830 Managed Identity Operator: ${identities}/read, ${identities}/assign/action
4d97b98b-1d4f-4787-a291-c67834d212e7 Network Contributor: Microsoft.Network/*
7f951dda-4ed3-4680-a7ca-43fe172d538d AcrPull: ${pull}
8311e382-0749-4cb8-b61a-304f252e45ec AcrPush: ${pull}, ${push}
b93aa761-3e63-49ed-ac28-beffa264f7ac Container Registry Repository Reader: ${readContent}
2a1e307c-b015-4ebd-883e-5b7698a07328 Container Registry Repository Writer: ${readContent}, ${writeContent}
4abbcc35-e782-43d8-92c5-2d3f1bd2253f Azure Kubernetes Service Cluster User Role: ${cluster}/read, ${cluster}/listClusterUserCredential/action
b1ff04bb-8a4e-4dc4-8eb5-8693973ce19b Azure Kubernetes Service RBAC Cluster Admin: ${cluster}/listClusterUserCredential/action, data ${cluster}/*`;

/** The roles that the model knows, each with its GUID. */
export const roleDefinitions = [...builtIn.matchAll(/^(\S+) (.*): (.*)$/gm)].map(
    ([, id = "", name = "", actions = ""]) => ({ id, name, actions: actions.split(", ") }),
);

/** Something that somebody wants to do. */
interface Request {
    /** e.g. `Microsoft.ContainerRegistry/registries/write`. */
    action: string;
    /** Resource id that it is done to. */
    scope: string;
    /** The role to assign or take away, for conditions on that. */
    roleDefinitionId?: string | undefined;
    /** Whether it is a data action. Default: false. */
    data?: boolean;
}

/** Whether one of the role assignments of the principal or its groups that have an effect by now lets it do this. */
export function allowed(azure: Azure, principalId: string, request: Request): boolean {
    const { action, scope, data } = request;
    const holders = [principalId, ...azure.groupsOf(principalId)];
    return azure.resources(assignments).some(({ id, body, computed }) => {
        const role = roleDefinitions.find((each) => each.id === guidOf(body.roleDefinitionId));
        return (
            holders.some((each) => same(body.principalId, each)) &&
            contains(scopeOf(id), scope) &&
            computed.effectiveAt <= azure.now() &&
            includes(role?.actions, data ? "data " : "", action) &&
            !(!data && includes(role?.actions, "not ", action)) &&
            fulfils(request, body.condition)
        );
    });
}

/** Role assignments, at any scope ("Troubleshoot Azure RBAC" has their errors). */
export const roleAssignments: ResourceType = {
    type: assignments,
    name: guidPattern,
    located: false,
    seconds: { create: 2, update: 2, delete: 2 },
    validate(azure, { id, name, body }, previous) {
        const scope = scopeOf(id);
        if (scope.includes("/providers/") && !azure.resource(scope)) throw notFound(scope);
        const role = guidOf(body.roleDefinitionId);
        if (!roleDefinitions.some((each) => each.id === role)) {
            const message = `The specified role definition with ID '${role.replace(/-/g, "")}' does not exist.`;
            throw new AzureError(404, "RoleDefinitionDoesNotExist", message);
        }
        checkPrincipal(azure, body);
        const named = previous ?? azure.resources(assignments).find((each) => same(each.name, name));
        if (named && !(same(named.id, id) && sameGrant(named, body))) {
            const message =
                "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.";
            throw new AzureError(400, "RoleAssignmentUpdateNotPermitted", message);
        }
        const twin = named ? undefined : grantAt(azure, scope, body)?.name;
        if (twin) {
            const which = `The ID of the existing role assignment is ${twin.replace(/-/g, "")}.`;
            throw new AzureError(409, "RoleAssignmentExists", `The role assignment already exists. ${which}`);
        }
    },
    apply(azure, { body, computed }) {
        computed.effectiveAt ??= azure.now() + azure.settings.propagationSeconds * 1000;
        computed.principalType ??= azure.find(body.principalId)?.type ?? body.principalType;
    },
    view: (_azure, { id, body, computed: { principalType } }) => ({
        ...{ scope: scopeOf(id), principalType },
        ...body,
    }),
};

function checkPrincipal(azure: Azure, { principalId, principalType }: Properties): void {
    if (!guidPattern.test(principalId)) {
        const message = `The Principal ID '${principalId}' is not valid. Principal ID must be a GUID.`;
        throw new AzureError(400, "InvalidPrincipalId", message);
    }
    const principal = azure.principals.find(({ objectId }) => same(objectId, principalId));
    if (!principal && principalType !== "ServicePrincipal") {
        const message = `Principal ${principalId.replace(/-/g, "")} does not exist in the directory ${azure.tenantId}. Check that you have the correct principal ID. If you are creating this principal and then immediately assigning a role, this error might be related to a replication delay. In this case, set the role assignment principalType property to a value, such as ServicePrincipal, User, or Group.  See https://aka.ms/docs-principaltype`;
        throw new AzureError(400, "PrincipalNotFound", message);
    }
    if (principal && principalType !== undefined && principal.type !== principalType) {
        // The misspelling is Azure's.
        const message = `The PrincipalId '${principalId}' has type '${principal.type}' , which is different from specified PrinciaplType '${principalType}'.`;
        throw new AzureError(400, "UnmatchedPrincipalType", message);
    }
}

/** The assignment at the scope itself, not above, that gives this role to this principal. */
export function grantAt(azure: Azure, scope: string, grant: Properties): Resource | undefined {
    const all = azure.resources(assignments, scope);
    return all.find((each) => same(scopeOf(each.id), scope) && sameGrant(each, grant));
}

/** Whether an assignment gives the same role to the same principal. */
function sameGrant({ body }: Resource, other: Properties): boolean {
    return (
        same(body.principalId, other.principalId) &&
        guidOf(body.roleDefinitionId) === guidOf(other.roleDefinitionId)
    );
}

/** A condition that lets the holder of a role assign and take away only these roles ("Delegate Azure role assignment management to others with conditions"). */
export function onlyRoles(...names: string[]): string {
    const ids = roleDefinitions.filter(({ name }) => names.includes(name)).map(({ id }) => id);
    const clause = (verb: string, source: string) =>
        `((!(ActionMatches{'${assignments}/${verb}'})) OR (@${source}[${assignments}:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {${ids.join(", ")}}))`;
    return `${clause("write", "Request")} AND ${clause("delete", "Resource")}`;
}

/** Whether a condition's clause for the action, if there is one, names the role. */
function fulfils({ action, roleDefinitionId }: Request, condition = ""): boolean {
    const clause = condition.split("ActionMatches").find((each) => each.startsWith(`{'${action}'}`));
    const roles = /GuidEquals\s*\{([^}]*)\}/.exec(clause ?? "")?.[1];
    return roles === undefined || roles.includes(guidOf(roleDefinitionId));
}

/** Whether one of the patterns with the mark, in which * stands for anything, matches the action. */
function includes(patterns: string[] = [], mark: string, action: string): boolean {
    const matching = (pattern: string) => new RegExp(`^${pattern.replace(/\*/g, ".*")}$`, "i");
    return patterns.some((each) => each.startsWith(mark) && matching(each.slice(mark.length)).test(action));
}

function scopeOf(assignmentId: string): string {
    return assignmentId.replace(/\/providers\/Microsoft\.Authorization\/roleAssignments\/[^/]*$/i, "");
}

function guidOf(roleDefinitionId: unknown): string {
    return String(roleDefinitionId).split("/").at(-1)?.toLowerCase() ?? "";
}
