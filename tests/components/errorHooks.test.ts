import * as pulumi from "@pulumi/pulumi";
import {
    explainPull,
    explainPush,
    explainRefusal,
    explanationOf,
    retryWhilePropagating,
} from "../../components/errorHooks";
import { mockedStack } from "./stack";

const propagating = 'Status=400 Code="CustomKubeletIdentityMissingPermissionError" Message="must be granted"';
const scope = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/r";
const refused = (action: string, at: string) =>
    `Status=403 Code="AuthorizationFailed" Message="The client 'ann@example.com' with object id '11111111-2222-4333-8444-555555555555' ` +
    `does not have authorization or an ABAC condition not fulfilled to perform action '${action}' over scope '${at}' or the scope is invalid."`;

const logged: string[] = [];
jest.spyOn(pulumi.log, "error").mockImplementation(async (message) => void logged.push(message));
jest.spyOn(pulumi.log, "info").mockImplementation(async (message) => void logged.push(message));
beforeEach(async () => {
    logged.splice(0);
    await mockedStack();
});

const failure = (...errors: string[]): pulumi.ErrorHookArgs => ({
    urn: "urn",
    id: "",
    name: "cluster",
    type: "type",
    failedOperation: "create",
    errors,
});

describe("the hook on the cluster", () => {
    it("tries again while the grant reaches all of Azure, and says when", async () => {
        const hook = retryWhilePropagating("hook", [0, 0]);
        expect(await hook.callback(failure(propagating))).toBe(true);
        expect(await hook.callback(failure(propagating, propagating))).toBe(true);
        expect(logged).toEqual([
            "Azure has not yet taken in that the control plane may use the kubelet identity; try 2 of 3 in 0 s.",
            "Azure has not yet taken in that the control plane may use the kubelet identity; try 3 of 3 in 0 s.",
        ]);
    });

    it("gives up after its last wait, with what to check", async () => {
        const hook = retryWhilePropagating("hook", [0]);
        expect(await hook.callback(failure(propagating, propagating))).toBe(false);
        expect(logged[0]).toContain(
            "Check that its role assignment Managed Identity Operator on the kubelet identity exists",
        );
    });

    it("waits about ten minutes in all, as long as Azure may take", async () => {
        jest.useFakeTimers();
        const hook = retryWhilePropagating("hook");
        const errors: string[] = [];
        let again = true;
        const since = Date.now();
        while (again) {
            errors.push(propagating);
            const answer = Promise.resolve(hook.callback(failure(...errors)));
            await jest.advanceTimersByTimeAsync(60_000);
            again = await answer;
        }
        const waits = logged.map((line) => Number(/ in (\d+) s\.$/.exec(line)?.[1] ?? 0));
        expect(waits.reduce((sum, each) => sum + each, 0)).toBeGreaterThanOrEqual(600);
        expect(errors.length).toBeLessThan(100);
        expect(Date.now()).toBeGreaterThan(since);
        jest.useRealTimers();
    });

    it("lets any other failure be one", async () => {
        expect(await retryWhilePropagating("hook", [0]).callback(failure("QuotaExceeded"))).toBe(false);
        expect(logged).toEqual([]);
    });
});

describe("the hook on role assignments", () => {
    it("says who lacks what, who can give it, and the command", async () => {
        const at = `${scope}/providers/Microsoft.Authorization/roleAssignments/99999999-0000-4000-8000-000000000000`;
        const error = refused("Microsoft.Authorization/roleAssignments/write", at);
        expect(await explainRefusal("hook").callback(failure(error))).toBe(false);
        expect(logged).toEqual([
            "ann@example.com (object id 11111111-2222-4333-8444-555555555555) may not assign roles on " +
                `${scope}: the permission Microsoft.Authorization/roleAssignments/write is missing. ` +
                "An Owner, User Access Administrator or Role Based Access Control Administrator of that scope can run " +
                "`pulumi up` for you, or give you the last of these roles there: az role assignment create " +
                '--role "Role Based Access Control Administrator" --assignee 11111111-2222-4333-8444-555555555555 ' +
                `--scope ${scope}. Or do without: \`pulumi config set aks-acr:roleAssignments external\` makes everything else, ` +
                "and puts the one command that they run into the output pullAccess.command.",
        ]);
    });

    it("names any other permission that is missing", () => {
        expect(explanationOf(refused("Microsoft.ContainerService/managedClusters/write", scope))).toBe(
            "ann@example.com (object id 11111111-2222-4333-8444-555555555555) lacks the permission " +
                `Microsoft.ContainerService/managedClusters/write on ${scope}. An Owner of it can give you a role that has it.`,
        );
    });

    it("says what to do about a grant that was there before", () => {
        const error =
            'Code="RoleAssignmentExists" Message="The role assignment already exists. The ID of the existing role assignment is 0123456789abcdef0123456789abcdef."';
        expect(explanationOf(error)).toBe(
            "This permission was already granted by hand or by another stack (role assignment 0123456789abcdef0123456789abcdef). " +
                "Leave it as it is with `pulumi config set aks-acr:roleAssignments external`, or take it over with `pulumi import`.",
        );
    });

    it("says the same where the grant even has the name that this stack would give it", () => {
        const id = `${scope}/providers/Microsoft.Authorization/roleAssignments/99999999-0000-4000-8000-000000000000`;
        expect(explanationOf(`cannot create already existing resource '${id}'`)).toBe(
            `This permission was already granted by hand or by another stack (role assignment ${id}). ` +
                "Leave it as it is with `pulumi config set aks-acr:roleAssignments external`, or take it over with `pulumi import`.",
        );
    });

    it.each([
        ["registry", scope, "registry"],
        [
            "cluster",
            scope.replace(
                "Microsoft.ContainerRegistry/registries",
                "Microsoft.ContainerService/managedClusters",
            ),
            "cluster",
        ],
    ])("says how to use a %s that is there already", (_, id, key) => {
        expect(explanationOf(`cannot create already existing resource '${id}'`)).toBe(
            `${id} is there already. Set aks-acr:${key}.id to that id to use it as it is, or choose another ${key}.create.name; ` +
                "if an update of this stack was killed while it made that, docs/state.md says how to go on.",
        );
    });

    it("has nothing to add to other errors", () => {
        expect(explanationOf("LocationRequired")).toBeUndefined();
    });
});

describe("the hook on the image", () => {
    it("says how to log docker in, where it is not", async () => {
        const denied = failure("error pushing image: unauthorized: authentication required");
        expect(await explainPush("hook", "docker").callback(denied)).toBe(false);
        expect(logged).toEqual([
            "The registry does not let you push. Docker is not logged in there: run `az acr login --name <registry>`, " +
                "or remove aks-acr:image.login to push by your Azure login.",
        ]);
    });

    it("says which role is missing to a caller who may pull only", async () => {
        await explainPush("hook", "azure").callback(
            failure("denied: requested access to the resource is denied"),
        );
        expect(logged).toEqual([
            "The registry does not let you push. You may pull from it, but not push: ask its Owner for AcrPush on it, " +
                "in ABAC mode for Container Registry Repository Writer.",
        ]);
    });

    it("has nothing to add to a build that failed", async () => {
        await explainPush("hook", "azure").callback(failure("COPY failed: no such file"));
        expect(logged).toEqual([]);
    });
});

describe("the hook on the Deployment", () => {
    it("recognises a registry that ignores the role, and says so", async () => {
        const unready = failure(
            "2 errors: * Timeout, * [Pod nginx/nginx0]: ImagePullBackOff: failed to fetch oauth token: 401 Unauthorized",
        );
        expect(await explainPull("hook").callback(unready)).toBe(false);
        expect(logged).toHaveLength(1);
        expect(logged[0]).toContain("the registry ignores AcrPull, as registries in ABAC mode do");
        expect(logged[0]).toContain("set aks-acr:registry.permissions to abac");
    });

    it("has nothing to add to pods that fail for another reason", async () => {
        await explainPull("hook").callback(failure("CrashLoopBackOff"));
        expect(logged).toEqual([]);
    });
});
