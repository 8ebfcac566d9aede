import { chmodSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { buffer } from "node:stream/consumers";
import { type Properties, type Provider, unknown } from "../../../sandbox/provider";
import { contextOf, digestOf } from "../../../sandbox/providers/build-context";
import { changedInputs, dockerProvider } from "../../../sandbox/providers/docker";

const type = "docker:index/image:Image";
const resource = { type, name: "nginx", urn: `urn:pulumi:dev::test::${type}::nginx` };
let directory: string;

function write(files: Record<string, string>): void {
    for (const [path, content] of Object.entries(files)) {
        mkdirSync(dirname(join(directory, path)), { recursive: true });
        writeFileSync(join(directory, path), content);
    }
}

beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "aks-acr-docker-"));
    write({ "app/Dockerfile": "FROM nginx\nCOPY . /\n", "app/index.html": "one", "app/css/a.css": "a" });
});
afterEach(() => rmSync(directory, { recursive: true }));

const build = { context: "app", dockerfile: "app/Dockerfile" };
const digest = () => digestOf(contextOf(directory, build));

describe("the digest of a build context", () => {
    it("is the same for the same files, whenever they were written", () => {
        const before = digest();
        utimesSync(join(directory, "app/index.html"), 1, 1);
        expect(digest()).toBe(before);
    });

    it.each<[string, () => void]>([
        ["a page is written anew", () => write({ "app/index.html": "two" })],
        ["a file is added", () => write({ "app/new": "" })],
        ["a file can be executed", () => chmodSync(join(directory, "app/index.html"), 0o755)],
        ["the Dockerfile changes", () => write({ "app/Dockerfile": "FROM httpd\n" })],
    ])("changes when %s", (_what, change) => {
        const before = digest();
        change();
        expect(digest()).not.toBe(before);
    });

    it("does not change with what .dockerignore names", () => {
        write({ "app/.dockerignore": "# not these\n*.log\ndist/\n**/*.tmp\n!keep.tmp\n" });
        const before = digest();
        write({ "app/a.log": "1", "app/dist/x": "1", "app/css/deep/b.tmp": "1" });
        expect(digest()).toBe(before);
        write({ "app/keep.tmp": "1" });
        expect(digest()).not.toBe(before);
    });

    it("follows the Dockerfile's own .dockerignore where there is one", () => {
        write({ "app/.dockerignore": "index.html", "app/Dockerfile.dockerignore": "css" });
        expect(contextOf(directory, build).files).toEqual([
            ".dockerignore",
            "Dockerfile",
            "Dockerfile.dockerignore",
            "index.html",
        ]);
    });

    it("is the vendor's, so that a state can go from one plugin to the other", () => {
        rmSync(join(directory, "app/css"), { recursive: true });
        chmodSync(join(directory, "app/Dockerfile"), 0o644);
        chmodSync(join(directory, "app/index.html"), 0o644);
        expect(digest()).toBe("884fdb4dab2fb916d7848fa4f48c7bf42cc46d5e92a7a5bca817ae37ee2f49d8");
    });
});

describe("the Dockerfile", () => {
    it("is looked for from the project's directory, and the error says where it is", () => {
        expect(() => contextOf(directory, { context: "app", dockerfile: "Dockerfile" })).toThrow(
            'There is no Dockerfile at Dockerfile; try "app/Dockerfile": it is looked for from the project\'s directory.',
        );
    });

    it("has to be in the context", () => {
        write({ Dockerfile: "FROM nginx" });
        expect(() => contextOf(directory, { context: "app", dockerfile: "Dockerfile" })).toThrow(
            "The Dockerfile Dockerfile is outside of app; move it in there.",
        );
    });
});

describe("what changes an image", () => {
    const inputs = { imageName: "r/n:1", build, registry: { server: "r", username: "u", password: "p" } };

    it("is not a new password or user name", () => {
        const registry = { server: "r", username: "other", password: unknown };
        expect(changedInputs(inputs, { ...inputs, registry })).toEqual([]);
    });

    it("is another registry, name or context, told by its top-level name", () => {
        const news = {
            imageName: unknown,
            build: { ...build, contextDigest: "x" },
            registry: { server: "s" },
        };
        expect(changedInputs(inputs, news)).toEqual(["imageName", "build", "registry"]);
    });
});

/** A daemon that answers with what it is told, and remembers what it was asked. */
function daemon(messages: Record<string, object[]>) {
    const requests: { url: string; auth: string; body: string }[] = [];
    const socketPath = join(directory, "docker.sock");
    const server: Server = createServer(async (request, response) => {
        const url = new URL(request.url ?? "", "http://docker");
        const body = (await buffer(request)).toString("latin1");
        const auth = Buffer.from(String(request.headers["x-registry-auth"] ?? ""), "base64url").toString();
        requests.push({ url: request.url ?? "", auth, body });
        const kind = url.pathname.split("/").at(-1) ?? "";
        const answers: Record<string, string> = {
            _ping: "OK",
            networks: "[]",
            json: '{"Id":"sha256:local"}',
        };
        response.end(answers[kind] ?? (messages[kind] ?? []).map((each) => JSON.stringify(each)).join("\n"));
    }).listen(socketPath);
    return { requests, socketPath, stop: () => server.close() };
}

describe("the docker provider", () => {
    const told: string[] = [];
    const providerAt = (socketPath: string): Provider =>
        dockerProvider({ directory, socketPath: async () => socketPath })((message) => told.push(message));
    const checked = async (provider: Provider, inputs: Properties) =>
        (await provider.check?.(resource, {}, inputs, new Uint8Array()))?.inputs ?? {};
    const registry = { server: "127.0.0.1:5000", username: "user", password: "secret" };
    // BuilderV1, because BuildKit wants a session.
    const inputs = {
        imageName: "127.0.0.1:5000/nginx:v1",
        build: { ...build, builderVersion: "BuilderV1" },
        registry,
    };
    const pushed = `sha256:${"a".repeat(64)}`;

    beforeEach(() => told.splice(0));

    it("fills in context, Dockerfile, platform and the context's digest", async () => {
        write({ Dockerfile: "FROM nginx" });
        const { build: filled } = await checked(providerAt(""), { imageName: "127.0.0.1:5000/nginx:v1" });
        expect(filled).toEqual({
            context: ".",
            dockerfile: "Dockerfile",
            platform: expect.stringMatching(/^linux\/(amd64|arm64)$/),
            contextDigest: expect.stringMatching(/^[\da-f]{64}$/),
        });
    });

    it("refuses to push a name without a registry", async () => {
        const result = await providerAt("").check?.(
            resource,
            {},
            { imageName: "nginx:v1", build },
            new Uint8Array(),
        );
        expect(result?.failures).toEqual([
            { property: "imageName", reason: "must begin with its registry, e.g. docker.io/library/nginx:1" },
        ]);
    });

    it("says what to do where no daemon answers, in a preview too", async () => {
        const creating = providerAt(join(directory, "none.sock")).create(resource, inputs, true);
        await expect(creating).rejects.toThrow(
            /^The Docker daemon does not answer: .*\. Start it, or say in docker:host or DOCKER_HOST where it listens\.$/,
        );
    });

    it("leaves the digest unknown in a preview and builds nothing", async () => {
        const { requests, socketPath, stop } = daemon({});
        const { outputs } = await providerAt(socketPath).create(resource, inputs, true);
        stop();
        expect(outputs.repoDigest).toBe(unknown);
        expect(requests.map(({ url }) => url)).toEqual(["/_ping"]);
    });

    it("builds, pushes with the password in a header only, and knows the image by the registry's digest", async () => {
        const { requests, socketPath, stop } = daemon({
            build: [{ stream: "Step 1/2 : FROM nginx\n" }, { stream: "Successfully built\n" }],
            push: [{ status: "Pushed", id: "abc" }, { aux: { Tag: "v1", Digest: pushed, Size: 1 } }],
        });
        const { id, outputs } = await providerAt(socketPath).create(resource, inputs, false);
        stop();
        expect(id).toBe("127.0.0.1:5000/nginx:v1");
        expect(outputs).toEqual({
            imageName: "127.0.0.1:5000/nginx:v1",
            baseImageName: "127.0.0.1:5000/nginx:v1",
            context: "app",
            dockerfile: "Dockerfile",
            platform: undefined,
            registryServer: "127.0.0.1:5000",
            repoDigest: `127.0.0.1:5000/nginx@${pushed}`,
        });
        expect(told).toEqual(
            expect.arrayContaining(["Step 1/2 : FROM nginx", "abc: Pushed", "Pushing Image to the registry"]),
        );
        const [, , built, push] = requests;
        expect(built?.url).toMatch(
            /^\/build\?t=127\.0\.0\.1%3A5000%2Fnginx%3Av1&dockerfile=Dockerfile&.*networkmode=none/,
        );
        expect(built?.body).toContain("index.html");
        expect(push?.url).toBe("/images/127.0.0.1:5000/nginx/push?tag=v1");
        expect(JSON.parse(push?.auth ?? "")).toEqual({
            serveraddress: "127.0.0.1:5000",
            username: "user",
            password: "secret",
        });
        expect(JSON.stringify([told, requests.map(({ url, body }) => [url, body])])).not.toContain("secret");
    });

    it("packs the Dockerfile even where it is ignored, and nothing else that is", async () => {
        write({ "app/.dockerignore": "Dockerfile\ncss\n" });
        const { requests, socketPath, stop } = daemon({ push: [{ aux: { Digest: pushed } }] });
        await providerAt(socketPath).create(resource, inputs, false);
        stop();
        expect(requests[2]?.body).toContain("Dockerfile");
        expect(requests[2]?.body).not.toContain("a.css");
    });

    it("shows the last lines of a build that failed", async () => {
        const { socketPath, stop } = daemon({
            build: [
                { stream: "Step 2/2 : RUN make\n" },
                { stream: "make: no target\n" },
                { error: "returned 2" },
            ],
        });
        const creating = providerAt(socketPath).create(resource, inputs, false);
        await expect(creating).rejects.toThrow(
            "Docker could not build 127.0.0.1:5000/nginx:v1: returned 2\n    Step 2/2 : RUN make\n    make: no target",
        );
        stop();
    });

    it("says who could not push", async () => {
        const { socketPath, stop } = daemon({ push: [{ error: "unauthorized: authentication required" }] });
        const updating = providerAt(socketPath).update(
            resource,
            "id",
            { inputs, outputs: {} },
            inputs,
            false,
        );
        await expect(updating).rejects.toThrow(
            "Docker could not push 127.0.0.1:5000/nginx:v1; check that user may push there: unauthorized: authentication required",
        );
        stop();
    });

    it("knows an image that is not pushed by its own id", async () => {
        const { requests, socketPath, stop } = daemon({});
        const { outputs } = await providerAt(socketPath).create(
            resource,
            { ...inputs, skipPush: true },
            false,
        );
        stop();
        expect(outputs.repoDigest).toBe("sha256:local");
        expect(requests.some(({ url }) => url.includes("/push"))).toBe(false);
    });
});
