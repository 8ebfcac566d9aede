import { readFileSync } from "node:fs";
import { inspect } from "node:util";
import { ContainerImage, type ContainerImageArgs } from "../../components/containerImage";
import { digestOf } from "../../components/registryImage";
import { exchangeForRegistryToken } from "../../components/registryToken";
import { UserError } from "../../components/userError";
import { inputsOf, mockedStack, resolved } from "./stack";

const fetchMock = jest.spyOn(globalThis, "fetch");
const answer = (status: number, body: object = {}) => Response.json(body, { status });

beforeEach(() => fetchMock.mockReset());

const imageType = "docker:index/image:Image";
const loginServer = "team-abc123.azurecr.io";
const push = { loginServer, repository: "nginx", tag: "v1", platform: "linux/arm64" };
const digest = `sha256:${"0123456789abcdef".repeat(4)}`;
const caller = { tenantId: "tenant", objectId: "11111111-2222-4333-8444-555555555555" };

async function made(args: ContainerImageArgs) {
    const mocks = await mockedStack();
    fetchMock.mockResolvedValue(answer(200, { refresh_token: "registry token" }));
    const image = new ContainerImage("image", args);
    return { mocks, image, ref: await resolved(image.ref) };
}

const built = (build: { dockerfile?: string } = {}) => made({ ...push, build: { context: "app", ...build } });

describe("ContainerImage", () => {
    it("builds for the nodes' platform and pushes with a token of the registry", async () => {
        const { mocks } = await built();
        expect(inputsOf(mocks, imageType)).toMatchObject({
            imageName: "team-abc123.azurecr.io/nginx:v1",
            build: { context: "app", dockerfile: "app/Dockerfile", platform: "linux/arm64" },
            registry: {
                server: "team-abc123.azurecr.io",
                username: "00000000-0000-0000-0000-000000000000",
                password: "registry token",
            },
        });
    });

    it("is known by its digest", async () => {
        const { image, ref } = await built();
        expect(ref).toBe(`team-abc123.azurecr.io/nginx@${await resolved(image.digest)}`);
        expect(ref).toMatch(/@sha256:[\da-f]{64}$/);
    });

    it("takes another Dockerfile of the context", async () => {
        const { mocks } = await built({ dockerfile: "Debug.Dockerfile" });
        expect(inputsOf(mocks, imageType).build.dockerfile).toBe("app/Debug.Dockerfile");
    });

    it("imports an image as it is upstream, from a Dockerfile of one line whose path is no machine's", async () => {
        const { mocks } = await made({ ...push, import: "nginx:1.29" });
        expect(inputsOf(mocks, imageType)).toMatchObject({
            imageName: "team-abc123.azurecr.io/nginx:v1",
            build: {
                context: "components/import",
                dockerfile: "components/import/Dockerfile",
                args: { SOURCE: "nginx:1.29" },
                platform: "linux/arm64",
            },
        });
        expect(readFileSync("components/import/Dockerfile", "utf8")).toMatch(
            /^ARG SOURCE\nFROM \$\{SOURCE\}\n$/m,
        );
    });

    it("takes an image that is there by its digest, without docker, token or registry", async () => {
        const { mocks, image, ref } = await made({ loginServer, ref: `team/nginx@${digest}` });
        expect(ref).toBe(`team-abc123.azurecr.io/team/nginx@${digest}`);
        expect(await resolved(image.digest)).toBe(digest);
        expect(mocks.resources.map(({ type }) => type)).toEqual(["aks-acr:index:ContainerImage"]);
        expect(fetchMock).not.toHaveBeenCalled();
    });

    it("pushes as docker is logged in, where asked to, and asks for no token", async () => {
        const { mocks } = await made({ ...push, import: "nginx:1.29", login: "docker" });
        expect(inputsOf(mocks, imageType).registry).toEqual({ server: loginServer });
        expect(fetchMock).not.toHaveBeenCalled();
    });

    it("exchanges the caller's own Azure token, at the registry itself", async () => {
        const { mocks } = await built();
        const [url, request] = fetchMock.mock.calls[0] ?? [];
        expect(fetchMock).toHaveBeenCalledTimes(1);
        expect(url).toBe("https://team-abc123.azurecr.io/oauth2/exchange");
        expect(Object.fromEntries(request?.body as URLSearchParams)).toEqual({
            grant_type: "access_token",
            service: "team-abc123.azurecr.io",
            tenant: mocks.azure.tenantId,
            access_token: "token for https://containerregistry.azure.net",
        });
    });
});

describe("a registry token", () => {
    const exchange = (options: Parameters<typeof exchangeForRegistryToken>[3] = {}) =>
        exchangeForRegistryToken("team.azurecr.io", caller, "token", options);
    const commandFor = (role: string) =>
        `az role assignment create --assignee 11111111-2222-4333-8444-555555555555 --role "${role}" ` +
        "--scope $(az acr list --query \"[?loginServer=='team.azurecr.io'].id\" --output tsv)";

    it("is refused with the role that is missing, the command that gives it, and the mode that would ignore it", async () => {
        fetchMock.mockResolvedValue(answer(401));
        await expect(exchange()).rejects.toThrow(
            "The registry team.azurecr.io does not let you push (HTTP 401). Check that its network rules let you in, " +
                `or ask its Owner to run: ${commandFor("AcrPush")}. ` +
                "A registry in ABAC mode ignores AcrPush, Contributor and Owner: if it is in that mode, set " +
                "aks-acr:registry.permissions to abac and ask for Container Registry Repository Writer.",
        );
        expect(fetchMock).toHaveBeenCalledTimes(1);
    });

    it("of a registry in ABAC mode is refused with the role for that mode", async () => {
        fetchMock.mockResolvedValue(answer(403));
        await expect(exchange({ permissions: "abac" })).rejects.toThrow(
            "The registry team.azurecr.io does not let you push (HTTP 403). Check that its network rules let you in, " +
                `or ask its Owner to run: ${commandFor("Container Registry Repository Writer")}.`,
        );
    });

    it("is asked for again while the registry's name is new to the DNS", async () => {
        fetchMock.mockRejectedValueOnce(new TypeError("fetch failed"));
        fetchMock.mockResolvedValueOnce(answer(503));
        fetchMock.mockResolvedValueOnce(answer(200, { refresh_token: "late" }));
        expect(await exchange({ waits: [0, 0, 0] })).toBe("late");
    });

    it("is given up with the reason and what to do", async () => {
        fetchMock.mockRejectedValue(
            new TypeError("fetch failed", { cause: new Error("ENOTFOUND team.azurecr.io") }),
        );
        await expect(exchange({ waits: [0] })).rejects.toThrow(
            "The registry team.azurecr.io gives no token (Error: ENOTFOUND team.azurecr.io). " +
                "Check that this machine reaches it, then run `pulumi up` again.",
        );
        expect(fetchMock).toHaveBeenCalledTimes(2);
    });
});

describe("a digest", () => {
    it("is what docker reports behind the @", () => {
        expect(digestOf(`team.azurecr.io/nginx@${digest}`)).toBe(digest);
    });

    it("that docker does not have is an error with what to do", () => {
        expect(() => digestOf("<none>@<none>")).toThrow(
            'Docker reports no digest for the pushed image (it says "<none>@<none>"). Run `pulumi up` again to push it once more.',
        );
    });
});

describe("an error from inside an output", () => {
    it("keeps its message, whatever the SDK puts before it", () => {
        const error = new UserError("no token");
        error.message = `error serializing property "registry": ${error.message}`;
        expect(error.message).toBe("no token");
    });

    it("is inspected, as the SDK does, without what hangs on to it", () => {
        const error = Object.assign(new UserError("no token"), {
            promise: Promise.resolve({ all: "things" }),
        });
        expect(inspect(error, { colors: true })).toBe("no token");
    });
});
