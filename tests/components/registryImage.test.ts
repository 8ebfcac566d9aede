import { architecturesOfImage } from "../../components/registryImage";

const ref = `team/nginx@sha256:${"0".repeat(64)}`;
const fetchMock = jest.spyOn(globalThis, "fetch");

/** A registry that has these answers, by path. */
function serving(answers: Record<string, Response>) {
    fetchMock.mockReset();
    fetchMock.mockImplementation(async (url) => {
        const { pathname } = new URL(String(url));
        return answers[pathname] ?? new Response(null, { status: 404 });
    });
}

const token = () => Response.json({ access_token: "access" });
const architectures = () => architecturesOfImage("team.azurecr.io", ref, "refresh");

describe("the architectures of an image in a registry", () => {
    it("are those of an index", async () => {
        const manifests = ["amd64", "arm64"].map((architecture) => ({ platform: { architecture } }));
        serving({
            "/oauth2/token": token(),
            [`/v2/team/nginx/manifests/sha256:${"0".repeat(64)}`]: Response.json({ manifests }),
        });
        expect(await architectures()).toEqual(["amd64", "arm64"]);
    });

    it("is the one of a single image, whose configuration names it", async () => {
        serving({
            "/oauth2/token": token(),
            [`/v2/team/nginx/manifests/sha256:${"0".repeat(64)}`]: Response.json({
                config: { digest: "sha256:c" },
            }),
            "/v2/team/nginx/blobs/sha256:c": Response.json({ architecture: "arm64" }),
        });
        expect(await architectures()).toEqual(["arm64"]);
    });

    it("are undefined where the registry does not have it", async () => {
        serving({ "/oauth2/token": token() });
        expect(await architectures()).toBeUndefined();
    });

    it("are asked for with a token for this repository and for pulling only", async () => {
        serving({ "/oauth2/token": token() });
        await architectures();
        const [url, options] = fetchMock.mock.calls[0] ?? [];
        const { searchParams } = new URL(String(url));
        expect(Object.fromEntries(searchParams)).toEqual({
            service: "team.azurecr.io",
            scope: "repository:team/nginx:pull",
        });
        const basic = Buffer.from("00000000-0000-0000-0000-000000000000:refresh").toString("base64");
        expect(options?.headers).toMatchObject({ authorization: `Basic ${basic}` });
    });

    it("cannot be told where the registry refuses", async () => {
        serving({ "/oauth2/token": new Response(null, { status: 401 }) });
        await expect(architectures()).rejects.toThrow(
            "https://team.azurecr.io/oauth2/token answers HTTP 401",
        );
    });
});
