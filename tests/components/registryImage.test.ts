import { architecturesOfImage, copyImage, partsOf } from "../../components/registryImage";

const image = {
    loginServer: "team.azurecr.io",
    repository: "team/nginx",
    digest: `sha256:${"0".repeat(64)}`,
    refreshToken: "refresh",
};
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
const architectures = () => architecturesOfImage(image);

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
            "GET https://team.azurecr.io/oauth2/token is answered with HTTP 401.",
        );
    });
});

/** Two registries by the distribution protocol, with what they hold: manifests and blobs by digest or tag. */
function registries(contents: Record<string, Map<string, string>>) {
    const requests: string[] = [];
    fetchMock.mockReset();
    fetchMock.mockImplementation(async (input, { method = "GET", body } = {}) => {
        const url = new URL(String(input));
        const held = contents[url.hostname] as Map<string, string>;
        const name = url.pathname.split("/").at(-1) ?? "";
        if (url.pathname === "/oauth2/token") return token();
        requests.push(`${method} ${url.hostname} ${name || "uploads"}`);
        if (method === "POST")
            return new Response(null, { status: 202, headers: { location: "/upload/1?state=x" } });
        if (method === "PUT") {
            const digest = url.searchParams.get("digest") ?? name;
            held.set(digest, typeof body === "string" ? body : Buffer.from(body as ArrayBuffer).toString());
            return new Response(null, { status: 201 });
        }
        const content = held.get(name);
        const headers = { "content-type": "application/json", "docker-content-digest": name };
        return content === undefined
            ? new Response(null, { status: 404 })
            : new Response(method === "HEAD" ? null : content, { headers });
    });
    return requests;
}

describe("a copy of an image", () => {
    const manifest = JSON.stringify({ config: { digest: "sha256:c" }, layers: [{ digest: "sha256:l" }] });
    const source = () =>
        new Map([
            [image.digest, manifest],
            ["sha256:c", "config"],
            ["sha256:l", "layer"],
        ]);
    const to = { ...image, loginServer: "prod.azurecr.io" };

    it("has every byte, under the same digest and a tag", async () => {
        const target = new Map<string, string>();
        registries({ "team.azurecr.io": source(), "prod.azurecr.io": target });
        await copyImage(image, to, "v1");
        expect(Object.fromEntries(target)).toEqual({ ...Object.fromEntries(source()), v1: manifest });
    });

    it("sends nothing that is there already", async () => {
        const target = new Map([...source(), ["v1", manifest]]);
        const requests = registries({ "team.azurecr.io": source(), "prod.azurecr.io": target });
        await copyImage(image, to, "v1");
        expect(requests.filter((request) => /^(POST|PUT) .*(uploads|sha256)/.test(request))).toEqual([]);
    });

    it("takes the images of all platforms along", async () => {
        const index = JSON.stringify({ manifests: [{ digest: "sha256:m" }] });
        const target = new Map<string, string>();
        const held = source().set(image.digest, index).set("sha256:m", manifest);
        registries({ "team.azurecr.io": held, "prod.azurecr.io": target });
        await copyImage(image, to, "v1");
        expect([...target.keys()].sort()).toEqual(
            [image.digest, "sha256:c", "sha256:l", "sha256:m", "v1"].sort(),
        );
    });

    it("of an image that is gone says what to do", async () => {
        registries({ "team.azurecr.io": new Map(), "prod.azurecr.io": new Map() });
        await expect(copyImage(image, to, "v1")).rejects.toThrow(
            `team.azurecr.io no longer has team/nginx@${image.digest}. Deploy it there again, then promote that.`,
        );
    });
});

describe("an image's name", () => {
    it("is taken apart, with a port and a path", () => {
        expect(partsOf(`127.0.0.1:5000/team/nginx@${image.digest}`)).toEqual({
            loginServer: "127.0.0.1:5000",
            repository: "team/nginx",
            digest: image.digest,
        });
    });
});
