import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { buffer } from "node:stream/consumers";
import { certificateIn } from "../../../sandbox/certificates";
import { reachable } from "../../../sandbox/download";
import { type Properties, type Provider, unknown } from "../../../sandbox/provider";
import { basesOf, contextOf, digestOf } from "../../../sandbox/providers/build-context";
import { changedInputs, dockerProvider } from "../../../sandbox/providers/docker";
import { saveCredentials } from "../../../sandbox/registry-login";

jest.mock("../../../sandbox/download");

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
    it("is the context's where none is named", () => {
        expect(contextOf(directory, { context: "app" }).dockerfile).toBe("Dockerfile");
    });

    it("has to be in the context", () => {
        write({ Dockerfile: "FROM nginx" });
        expect(() => contextOf(directory, { context: "app", dockerfile: "Dockerfile" })).toThrow(
            "The Dockerfile Dockerfile is outside of app; move it in there.",
        );
    });
});

describe("what a Dockerfile may start from", () => {
    it.each<[string, Record<string, string>, string[]]>([
        ["FROM nginx:1.29\n", {}, ["nginx:1.29"]],
        ["from --platform=linux/arm64 nginx\n", {}, ["nginx"]],
        ["FROM go AS build\nFROM scratch\nCOPY --from=build . /\n", {}, ["go", "scratch"]],
        [
            "ARG SOURCE\nFROM $SOURCE\n",
            { SOURCE: "127.0.0.1:5000/base:1" },
            ["$SOURCE", "127.0.0.1:5000/base:1"],
        ],
    ])("%j with %j is %j", (dockerfile, args, expected) => {
        write({ "app/Dockerfile": dockerfile });
        expect(basesOf(contextOf(directory, build), args)).toEqual(expected);
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

/**
 * A daemon that answers with what it is told, has the images that it is told, and remembers what it was asked. It opens
 * BuildKit's sessions after so many milliseconds.
 */
function daemon(messages: Record<string, object[]>, images: Record<string, object> = {}, patience = 0) {
    const requests: { url: string; auth: string; body: string }[] = [];
    const socketPath = join(directory, "docker.sock");
    const server: Server = createServer(async (request, response) => {
        const url = new URL(request.url ?? "", "http://docker");
        const body = (await buffer(request)).toString("latin1");
        const auth = Buffer.from(String(request.headers["x-registry-auth"] ?? ""), "base64url").toString();
        requests.push({ url: request.url ?? "", auth, body });
        const [, name] = /^\/images\/(.+)\/json$/.exec(url.pathname) ?? [];
        if (name !== undefined) {
            const image = images[name];
            return response.writeHead(image ? 200 : 404).end(JSON.stringify(image ?? {}));
        }
        const kind = url.pathname.split("/").at(-1) ?? "";
        const answers: Record<string, string> = { _ping: "OK", networks: "[]" };
        return response.end(
            answers[kind] ?? (messages[kind] ?? []).map((each) => JSON.stringify(each)).join("\n"),
        );
    }).listen(socketPath);
    server.on("upgrade", (_request, socket) => {
        const answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
        socket
            .on("error", () => undefined)
            .on("end", () => socket.destroy())
            .resume();
        setTimeout(() => socket.write(answer), patience);
    });
    return { requests, socketPath, stop: () => server.close() };
}

describe("the docker provider", () => {
    const told: string[] = [];
    let authority = "";
    const providerAt = (socketPath: string): Provider =>
        dockerProvider({
            directory,
            socketPath: async () => socketPath,
            configuration: directory,
            authority,
        })((message) => told.push(message));
    const checked = async (provider: Provider, inputs: Properties) =>
        (await provider.check?.(resource, {}, inputs, new Uint8Array()))?.inputs ?? {};
    const registry = { server: "127.0.0.1:5000", username: "user", password: "secret" };
    const inputs = { imageName: "127.0.0.1:5000/nginx:v1", build, registry };
    const pushed = `sha256:${"a".repeat(64)}`;

    beforeEach(() => told.splice(0));

    it("adds the context's digest, by which the engine sees that an image changes", async () => {
        const { build: filled } = await checked(providerAt(""), inputs);
        expect(filled).toEqual({ ...inputs.build, contextDigest: digest() });
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

    it("pushes with docker's own login where the program gives none", async () => {
        saveCredentials(directory, "127.0.0.1:5000", { username: "alice", password: "kept" });
        const { requests, socketPath, stop } = daemon({ push: [{ aux: { Digest: pushed } }] });
        await providerAt(socketPath).create(
            resource,
            { ...inputs, registry: { server: "127.0.0.1:5000" } },
            false,
        );
        stop();
        const push = requests.find(({ url }) => url.includes("/push"));
        expect(JSON.parse(push?.auth ?? "")).toEqual({
            serveraddress: "127.0.0.1:5000",
            username: "alice",
            password: "kept",
        });
    });

    describe("where the build starts from an image", () => {
        const args = { SOURCE: "127.0.0.1:5001/base@sha256:1" };
        const starting = { ...inputs, build: { ...inputs.build, args, platform: "linux/arm64" } };
        const messages = { push: [{ aux: { Digest: pushed } }] };
        beforeEach(() => write({ "app/Dockerfile": `ARG SOURCE\nFROM \${SOURCE}\n` }));
        const pulls = <T extends { url: string }>(requests: T[]) =>
            requests.filter(({ url }) => url.startsWith("/images/create"));

        it("pulls it with docker's login before it builds", async () => {
            saveCredentials(directory, "127.0.0.1:5001", { username: "alice", password: "kept" });
            const { requests, socketPath, stop } = daemon(messages);
            await providerAt(socketPath).create(resource, starting, false);
            stop();
            const [pull] = pulls(requests);
            expect(pull?.url).toBe(
                "/images/create?platform=linux%2Farm64&fromImage=127.0.0.1%3A5001%2Fbase&tag=sha256%3A1",
            );
            expect(JSON.parse(pull?.auth ?? "")).toEqual({
                serveraddress: "127.0.0.1:5001",
                username: "alice",
                password: "kept",
            });
            const order = requests.map(({ url }) => url.split("?")[0]);
            expect(order.indexOf("/images/create")).toBeLessThan(order.indexOf("/build"));
        });

        it("pulls nothing that the daemon has", async () => {
            saveCredentials(directory, "127.0.0.1:5001", { username: "alice", password: "kept" });
            const { requests, socketPath, stop } = daemon(messages, { [args.SOURCE]: { Id: "sha256:2" } });
            await providerAt(socketPath).create(resource, starting, false);
            stop();
            expect(pulls(requests)).toEqual([]);
        });

        it("leaves the pull to the build where docker has no login", async () => {
            const { requests, socketPath, stop } = daemon(messages);
            await providerAt(socketPath).create(resource, starting, false);
            stop();
            expect(pulls(requests)).toEqual([]);
        });

        it("says which one it could not pull", async () => {
            saveCredentials(directory, "127.0.0.1:5001", { username: "alice", password: "kept" });
            const { socketPath, stop } = daemon({ create: [{ error: "unauthorized" }] });
            const creating = providerAt(socketPath).create(resource, starting, false);
            await expect(creating).rejects.toThrow(
                "Docker could not pull 127.0.0.1:5001/base@sha256:1: unauthorized",
            );
            stop();
        });

        it("names an image of no registry by its tag, not by the id that was given for its digest", async () => {
            const id = `sha256:${"b".repeat(64)}`;
            const { requests, socketPath, stop } = daemon(messages, {
                [id]: { Id: id, RepoTags: ["nginx:1.29"] },
            });
            const asked = {
                ...inputs,
                build: { ...inputs.build, args: { SOURCE: `nginx@${id}`, OTHER: "x" } },
            };
            await providerAt(socketPath).create(resource, asked, false);
            stop();
            const built = requests.find(({ url }) => url.startsWith("/build"))?.url ?? "";
            expect(new URLSearchParams(built.split("?")[1]).get("buildargs")).toBe(
                '{"SOURCE":"nginx:1.29","OTHER":"x"}',
            );
        });
    });

    it("sends the whole context, however long BuildKit's session takes to open", async () => {
        const { requests, socketPath, stop } = daemon({ push: [{ aux: { Digest: pushed } }] }, {}, 300);
        await providerAt(socketPath).create(resource, inputs, false);
        stop();
        expect(requests.find(({ url }) => url.startsWith("/build"))?.body).toContain("COPY . /");
    });

    describe("asked for an image in a registry", () => {
        const functions = ["getRegistryImage", "getRegistryImageManifests"] as const;
        const invoke = (provider: Provider, name: (typeof functions)[number], args: Properties) =>
            provider.invoke?.(`docker:index/${name}:${name}`, args);
        const list = {
            mediaType: "application/vnd.oci.image.index.v1+json",
            manifests: [
                {
                    digest: "sha256:1",
                    mediaType: "application/vnd.oci.image.manifest.v1+json",
                    platform: { architecture: "arm64", os: "linux", variant: "v8" },
                },
            ],
        };
        let server: string;
        let stop = () => {};
        const asked: (string | undefined)[] = [];

        /** A registry that lets alice pull `team/web:1`, an image of many platforms, and `team/web:2`, of one. */
        beforeEach(async () => {
            asked.length = 0;
            const ca = await certificateIn(directory, "ca", { commonName: "authority", use: "authority" });
            const serving = { commonName: "acr", use: "server", names: ["127.0.0.1"] } as const;
            const { certificate: cert, key } = await certificateIn(directory, "server", serving, ca);
            authority = ca.certificate;
            const registry = createHttpsServer({ cert, key }, ({ url, headers }, response) => {
                asked.push(url);
                const realm = `Bearer realm="https://${server}/oauth2/token",service="acr"`;
                if (url?.startsWith("/oauth2/token")) {
                    const isAlice = headers.authorization === `Basic ${btoa("alice:kept")}`;
                    return response.writeHead(isAlice ? 200 : 401).end('{"access_token":"pull"}');
                }
                if (headers.authorization !== "Bearer pull")
                    return response.writeHead(401, { "www-authenticate": realm }).end();
                const found = { "/v2/team/web/manifests/1": list, "/v2/team/web/manifests/2": {} }[url ?? ""];
                return response
                    .writeHead(found ? 200 : 404, { "docker-content-digest": pushed })
                    .end(JSON.stringify(found ?? {}));
            });
            await once(registry.listen(0, "127.0.0.1"), "listening");
            server = `127.0.0.1:${(registry.address() as AddressInfo).port}`;
            stop = () => registry.close().closeAllConnections();
            saveCredentials(directory, server, { username: "alice", password: "kept" });
        });
        afterEach(() => stop());

        it("gives its digest, with a token for docker's login", async () => {
            const name = `${server}/team/web:1`;
            expect(await invoke(providerAt(""), "getRegistryImage", { name })).toEqual({
                id: pushed,
                name,
                sha256Digest: pushed,
            });
            expect(asked).toEqual([
                "/v2/team/web/manifests/1",
                "/oauth2/token?service=acr&scope=repository%3Ateam%2Fweb%3Apull",
                "/v2/team/web/manifests/1",
            ]);
        });

        it("gives its manifests, one a platform", async () => {
            const name = `${server}/team/web:1`;
            expect(await invoke(providerAt(""), "getRegistryImageManifests", { name })).toEqual({
                id: "team/web:1",
                name,
                manifests: [
                    {
                        architecture: "arm64",
                        mediaType: "application/vnd.oci.image.manifest.v1+json",
                        os: "linux",
                        sha256Digest: "sha256:1",
                    },
                ],
            });
        });

        it("is refused without a login that it takes", async () => {
            saveCredentials(directory, server, { username: "bob", password: "x" });
            const invoked = invoke(providerAt(""), "getRegistryImageManifests", {
                name: `${server}/team/web:1`,
            });
            await expect(invoked).rejects.toThrow(
                "Got error when attempting to fetch image version team/web:1 from registry: Got bad response from registry: 401 Unauthorized",
            );
        });

        it("has, like the vendor's, no manifests of an image for one platform", async () => {
            const args = { name: `${server}/team/web:2` };
            await expect(invoke(providerAt(""), "getRegistryImageManifests", args)).rejects.toThrow(
                "Got error when attempting to fetch image version team/web:2 from registry: Error unsupported manifest response",
            );
        });

        it.each(functions)("says in %s that there is none", async (name) => {
            const args = { name: `${server}/team/web:nope` };
            await expect(invoke(providerAt(""), name, args)).rejects.toThrow(
                "Got error when attempting to fetch image version team/web:nope from registry: Got bad response from registry: 404 Not Found",
            );
        });

        it("trusts no other authority", async () => {
            authority = (await certificateIn(directory, "other", { commonName: "other", use: "authority" }))
                .certificate;
            const { socketPath, stop: stopDaemon } = daemon({});
            const invoked = invoke(providerAt(socketPath), "getRegistryImage", {
                name: `${server}/team/web:1`,
            });
            await expect(invoked).rejects.toThrow(`${server} is out of reach`);
            stopDaemon();
            expect(asked).toEqual([]);
        });

        describe("that is out of reach", () => {
            const id = `sha256:${"c".repeat(64)}`;
            const image = { Id: id, Architecture: "amd64", Os: "linux" };
            beforeEach(() => jest.mocked(reachable).mockResolvedValue(false));

            it.each([
                ["its id", ["127.0.0.1:5000/nginx@sha256:other"], id],
                ["the digest that it was pulled by", [`nginx@${pushed}`], pushed],
            ])("gives what the daemon has, by %s", async (_what, RepoDigests, digest) => {
                const { socketPath, stop } = daemon({}, { "nginx:1.29": { ...image, RepoDigests } });
                const provider = providerAt(socketPath);
                const name = "nginx:1.29";
                const given = await invoke(provider, "getRegistryImage", { name });
                const shown = await invoke(provider, "getRegistryImageManifests", { name });
                stop();
                expect(given).toEqual({ id: digest, name, sha256Digest: digest });
                expect(shown?.manifests).toEqual([
                    {
                        architecture: "amd64",
                        mediaType: "application/vnd.docker.distribution.manifest.v2+json",
                        os: "linux",
                        sha256Digest: digest,
                    },
                ]);
            });

            it("says that the daemon does not have it either", async () => {
                const { socketPath, stop } = daemon({});
                const invoked = invoke(providerAt(socketPath), "getRegistryImage", { name: "nginx:1" });
                await expect(invoked).rejects.toThrow(
                    "Got error when attempting to fetch image version library/nginx:1 from registry: Got bad response from registry: 404 Not Found (docker.io is out of reach, and the Docker daemon does not have the image)",
                );
                stop();
            });
        });

        it("knows no other function", async () => {
            const invoked = providerAt("").invoke?.("docker:index/getNetwork:getNetwork", { name: "x" });
            await expect(invoked).rejects.toThrow(
                "The sandbox knows no function docker:index/getNetwork:getNetwork.",
            );
        });
    });
});
