import { ContainerImage, digestOf } from "../../components/containerImage";
import { exchangeForRegistryToken } from "../../components/registryToken";
import { inputsOf, mockedStack, resolved } from "./stack";

const fetchMock = jest.spyOn(globalThis, "fetch");
const answer = (status: number, body: object = {}) => Response.json(body, { status });

beforeEach(() => fetchMock.mockReset());

async function built(build: Partial<ConstructorParameters<typeof ContainerImage>[1]["build"]> = {}) {
    const mocks = await mockedStack();
    fetchMock.mockResolvedValue(answer(200, { refresh_token: "registry token" }));
    const image = new ContainerImage("image", {
        loginServer: "team-abc123.azurecr.io",
        repository: "nginx",
        tag: "v1",
        build: { context: "app", platform: "linux/arm64", ...build },
    });
    return { mocks, image, ref: await resolved(image.ref) };
}

describe("ContainerImage", () => {
    it("builds for the nodes' platform and pushes with a token of the registry", async () => {
        const { mocks } = await built();
        expect(inputsOf(mocks, "docker:index/image:Image")).toMatchObject({
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
        expect(inputsOf(mocks, "docker:index/image:Image").build.dockerfile).toBe("app/Debug.Dockerfile");
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
    it("is refused with the role that is missing", async () => {
        fetchMock.mockResolvedValue(answer(401));
        await expect(exchangeForRegistryToken("team.azurecr.io", "tenant", "token")).rejects.toThrow(
            "The registry team.azurecr.io does not let you push (HTTP 401). " +
                "Ask its Owner for the role AcrPush on it, or check that its network rules let you in.",
        );
        expect(fetchMock).toHaveBeenCalledTimes(1);
    });

    it("is asked for again while the registry's name is new to the DNS", async () => {
        fetchMock.mockRejectedValueOnce(new TypeError("fetch failed"));
        fetchMock.mockResolvedValueOnce(answer(503));
        fetchMock.mockResolvedValueOnce(answer(200, { refresh_token: "late" }));
        expect(await exchangeForRegistryToken("team.azurecr.io", "tenant", "token", [0, 0, 0])).toBe("late");
    });

    it("is given up with the reason and what to do", async () => {
        fetchMock.mockRejectedValue(
            new TypeError("fetch failed", { cause: new Error("ENOTFOUND team.azurecr.io") }),
        );
        await expect(exchangeForRegistryToken("team.azurecr.io", "tenant", "token", [0])).rejects.toThrow(
            "The registry team.azurecr.io gives no token (Error: ENOTFOUND team.azurecr.io). " +
                "Check that this machine reaches it, then run `pulumi up` again.",
        );
        expect(fetchMock).toHaveBeenCalledTimes(2);
    });
});

describe("a digest", () => {
    it("is what docker reports behind the @", () => {
        const digest = `sha256:${"0123456789abcdef".repeat(4)}`;
        expect(digestOf(`team.azurecr.io/nginx@${digest}`)).toBe(digest);
    });

    it("that docker does not have is an error with what to do", () => {
        expect(() => digestOf("<none>@<none>")).toThrow(
            'Docker reports no digest for the pushed image (it says "<none>@<none>"). Run `pulumi up` again to push it once more.',
        );
    });
});
