import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, get, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { dockerAnswers, ensureBaseImage, imageReference, removeBaseImage } from "../../sandbox/docker";
import { reachable } from "../../sandbox/download";
import { nginxImage } from "../../sandbox/tools";

jest.mock("../../sandbox/download");
jest.mock("../../sandbox/tools");

const standIn = JSON.stringify({ Config: { Labels: { "org.aks-acr.sandbox": "true" } } });
const real = JSON.stringify({ Config: { Labels: null } });
const environment = { ...process.env };

/** A daemon with one image or none, which notes its calls and what was loaded. */
class Daemon {
    readonly calls: string[] = [];
    loaded = "";
    server: Server;
    readonly directory = mkdtempSync(join(tmpdir(), "aks-acr-test-"));
    readonly socketPath = join(this.directory, "docker.sock");
    readonly own: boolean = false;
    stop = async () => undefined;

    constructor(public image?: string) {
        this.server = createServer(async (request, response) => {
            const body = await buffer(request);
            const [method, url = ""] = [request.method, request.url];
            this.calls.push(`${method} ${url}`);
            if (url.startsWith("/images/load")) {
                this.loaded = spawnSync("tar", ["-xO"], { input: body }).stdout.toString();
                this.image = standIn;
            }
            if (method === "DELETE") delete this.image;
            const registry = new URLSearchParams(url.split("?")[1]).get("fromImage");
            if (registry && this.pulls)
                await new Promise((resolve) => get(`http://${registry}`).on("error", resolve));
            const found = url === "/_ping" || url.startsWith("/images/load") || this.image !== undefined;
            response.writeHead(found ? 200 : 404).end(url.endsWith("/json") ? this.image : "{}");
        }).listen(this.socketPath);
    }

    pulls = true;
}

let daemon: Daemon;

afterEach(() => {
    daemon.server.close().closeAllConnections();
    rmSync(daemon.directory, { recursive: true, force: true });
    process.env = { ...environment };
    jest.resetAllMocks();
});

describe("the base image", () => {
    const hub = (answers: boolean) => jest.mocked(reachable).mockResolvedValue(answers);

    test("that the daemon has is left as it is", async () => {
        daemon = new Daemon(real);
        await ensureBaseImage(daemon, "nginx:1.29");
        expect(daemon.calls).toEqual(["GET /images/nginx:1.29/json"]);
        expect(reachable).not.toHaveBeenCalled();
    });

    test("is left to the build where Docker Hub answers", async () => {
        daemon = new Daemon();
        hub(true);
        await ensureBaseImage(daemon, "nginx:1.29");
        expect(daemon.calls).toEqual(["GET /images/nginx:1.29/json"]);
    });

    test("of another registry is left to the build", async () => {
        daemon = new Daemon();
        hub(false);
        await ensureBaseImage(daemon, "mcr.microsoft.com/azurelinux/base/nginx:1");
        expect(daemon.calls).toHaveLength(1);
    });

    test("gives way to the real one when Docker Hub answers again", async () => {
        daemon = new Daemon(standIn);
        hub(true);
        await ensureBaseImage(daemon, "nginx:1.29");
        expect(daemon.calls).toEqual(["GET /images/nginx:1.29/json", "DELETE /images/nginx:1.29?noprune=1"]);
    });

    test("is loaded under its name where Docker Hub is out of reach, and removed again", async () => {
        daemon = new Daemon();
        hub(false);
        jest.mocked(nginxImage).mockResolvedValue(daemon.directory);
        writeFileSync(join(daemon.directory, "config.json"), "<configuration>");
        writeFileSync(join(daemon.directory, "layer.tar"), "<layer>");
        await ensureBaseImage(daemon, "nginx");
        const manifest = '[{"Config":"config.json","RepoTags":["nginx:latest"],"Layers":["layer.tar"]}]';
        expect(daemon.loaded).toBe(`${manifest}<configuration><layer>`);
        await removeBaseImage(daemon, "nginx");
        expect(daemon.calls.at(-1)).toBe("DELETE /images/nginx?noprune=1");
    });

    test("that is not nginx and out of reach is an error with a way out", async () => {
        daemon = new Daemon();
        hub(false);
        await expect(ensureBaseImage(daemon, "caddy:2")).rejects.toThrow(
            "Docker Hub is out of reach and the Docker daemon does not have caddy:2. Load it there (docker load), or build on nginx with a tag.",
        );
    });

    test("stays at the end where it is the user's, or the daemon the sandbox's own", async () => {
        daemon = new Daemon(real);
        await removeBaseImage(daemon, "nginx:1.29");
        await removeBaseImage(
            { ...daemon, socketPath: daemon.socketPath, own: true, stop: daemon.stop },
            "nginx:1.29",
        );
        expect(daemon.calls).toEqual(["GET /images/nginx:1.29/json"]);
    });
});

describe("an image's name", () => {
    const digest = `sha256:${"a".repeat(64)}`;
    test.each([
        ["nginx", { server: "docker.io", repository: "library/nginx", version: "latest" }],
        ["nginx:1.29", { server: "docker.io", repository: "library/nginx", version: "1.29" }],
        ["bitnami/nginx:1", { server: "docker.io", repository: "bitnami/nginx", version: "1" }],
        ["docker.io/bitnami/nginx:1", { server: "docker.io", repository: "bitnami/nginx", version: "1" }],
        [`nginx:1.29@${digest}`, { server: "docker.io", repository: "library/nginx", version: digest }],
        [
            "docker.io/library/nginx:1.29@sha256:ab",
            { server: "docker.io", repository: "library/nginx", version: "sha256:ab" },
        ],
        ["localhost/nginx", { server: "localhost", repository: "nginx", version: "latest" }],
        ["127.0.0.1:5000/nginx", { server: "127.0.0.1:5000", repository: "nginx", version: "latest" }],
        ["127.0.0.1:5000/nginx:1", { server: "127.0.0.1:5000", repository: "nginx", version: "1" }],
        ["mcr.microsoft.com/nginx", { server: "mcr.microsoft.com", repository: "nginx", version: "latest" }],
        [`r.azurecr.io/a/b@${digest}`, { server: "r.azurecr.io", repository: "a/b", version: digest }],
    ])("%s is taken apart", (name, expected) => {
        expect(imageReference(name)).toEqual(expected);
    });
});

describe("a running daemon", () => {
    test("is used where it reaches the ports of this machine", async () => {
        daemon = new Daemon();
        process.env.DOCKER_HOST = `unix://${daemon.socketPath}`;
        expect(await dockerAnswers()).toBe(true);
    });

    test("is not used where it does not, as one in a virtual machine", async () => {
        daemon = new Daemon();
        daemon.pulls = false;
        process.env.DOCKER_HOST = `unix://${daemon.socketPath}`;
        expect(await dockerAnswers()).toBe(false);
    });

    test("is not used over the network, or where nothing answers", async () => {
        daemon = new Daemon();
        for (const host of ["tcp://127.0.0.1:2375", "ssh://host", `unix://${daemon.socketPath}.gone`]) {
            process.env.DOCKER_HOST = host;
            expect(await dockerAnswers()).toBe(false);
        }
    });
});
