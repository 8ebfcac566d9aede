import {
    chmodSync,
    existsSync,
    mkdirSync,
    mkdtempSync,
    readdirSync,
    rmSync,
    utimesSync,
    writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { cached, locked } from "../../sandbox/cache";
import { dependencies, distribution } from "../../sandbox/debian";
import { checksumOf, download, reachable } from "../../sandbox/download";
import { duration, Progress, run } from "../../sandbox/progress";
import {
    atLeast,
    machineProblems,
    planEngine,
    planKubernetes,
    planPlugin,
    requiredVersion,
} from "../../sandbox/tools";

const ignore = () => undefined;
const environment = { ...process.env };
let cache: string;
const servers: Server[] = [];

beforeEach(() => {
    const directory = mkdtempSync(join(tmpdir(), "aks-acr-test-"));
    cache = join(directory, "aks-acr");
    mkdirSync(cache);
    process.env = { PATH: "/usr/bin:/bin", PULUMI_HOME: join(cache, "home"), XDG_CACHE_HOME: directory };
    for (const host of ["get.pulumi.com", "dl.k8s.io"]) outOfReach(host);
});

afterEach(() => {
    for (const server of servers.splice(0)) server.close().closeAllConnections();
    rmSync(process.env.XDG_CACHE_HOME ?? "", { recursive: true });
    process.env = environment;
});

function outOfReach(host: string): void {
    mkdirSync(join(cache, "out-of-reach"), { recursive: true });
    writeFileSync(join(cache, "out-of-reach", host), "");
}

function command(path: string, script = ""): void {
    mkdirSync(join(path, ".."), { recursive: true });
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
}

async function serve(answer: (url: string) => { status: number; body?: string }) {
    const server = createServer((request, response) => {
        const { status, body } = answer(request.url ?? "");
        response.writeHead(status).end(body);
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    servers.push(server);
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe("versions", () => {
    test.each([
        ["3.259.0", "3.259.0", true],
        ["v3.270.0", "3.259.0", true],
        ["v3.260.0-alpha.1", "3.259.0", true],
        ["3.99.9", "3.259.0", false],
        ["2.300.0", "3.259.0", false],
        ["go1.26.8\n", "1.21", true],
        ["go1.19", "1.21", false],
        ["1.21", "1.21.0", true],
        ["", "1", false],
    ])("%s against %s", (version, minimum, expected) => {
        expect(atLeast(version, minimum)).toBe(expected);
    });

    test("of two different versions exactly one is new enough for the other", () => {
        const version = fc.array(fc.nat(30), { minLength: 3, maxLength: 3 }).map((parts) => parts.join("."));
        fc.assert(
            fc.property(
                version,
                version,
                (one, other) => atLeast(one, other) !== atLeast(other, one) || one === other,
            ),
        );
    });

    test("a go.mod says which version of a module it requires", () => {
        const goMod =
            "module x\n\nrequire (\n\tk8s.io/api v0.34.4 // indirect\n\tk8s.io/kubernetes v1.34.4\n)\n";
        expect(requiredVersion(goMod, "k8s.io/kubernetes")).toBe("1.34.4");
        expect(requiredVersion("require k8s.io/kubernetes v1.2.3\n", "k8s.io/kubernetes")).toBe("1.2.3");
        expect(() => requiredVersion(goMod, "k8s.io/kube")).toThrow("go.mod does not require k8s.io/kube");
    });
});

describe("a machine", () => {
    const good = {
        platform: "linux",
        architecture: "arm64",
        node: "20.20.0",
        root: true,
        capable: true,
        debian: true,
    };

    test("that has all has no problem", () => {
        expect(machineProblems(good)).toEqual([]);
    });

    test("that lacks several things gets told all of them at once", () => {
        const problems = machineProblems({
            ...good,
            architecture: "riscv64",
            node: "20.9.0",
            root: false,
            capable: false,
        });
        expect(problems).toEqual([
            "Node.js 20.9.0 is too old. Install 20.20 or newer.",
            "Use an x64 or arm64 machine; this is riscv64.",
            "It must run as root. Repeat the command with sudo, or in a container.",
        ]);
    });

    test("whose root lacks capabilities gets told how to start the container", () => {
        expect(machineProblems({ ...good, capable: false })).toEqual([
            "It may not set up networks. Start this container with --privileged.",
        ]);
    });

    test("without Linux, or without Debian's packages, gets a command that has both", () => {
        for (const other of [{ platform: "darwin" }, { debian: false }])
            expect(machineProblems({ ...good, ...other })).toEqual([
                expect.stringContaining("docker run --privileged"),
            ]);
    });
});

describe("the engine", () => {
    test("is compiled where the vendor's server is out of reach", async () => {
        const { result, job } = await planEngine();
        expect(result).toEqual({
            path: join(cache, "pulumi-3.259.0-compiled", "pulumi"),
            version: "3.259.0",
            source: "compiled",
        });
        expect(job).toMatchObject({ compiles: true, title: "Pulumi 3.259.0 from source, about 5 min" });
    });

    test("that was made before needs no work, whether the server answers or not", async () => {
        mkdirSync(join(cache, "pulumi-3.259.0-compiled"));
        expect(await planEngine()).toEqual({ result: expect.objectContaining({ source: "compiled" }) });
        mkdirSync(join(cache, "pulumi-3.270.0-downloaded"));
        expect(await planEngine()).toEqual({
            result: expect.objectContaining({ source: "downloaded", version: "3.270.0" }),
        });
    });

    test("is the user's own where that is new enough and has its language host beside it", async () => {
        const path = join(cache, "bin", "pulumi");
        process.env.PATH = `${join(cache, "bin")}:/usr/bin:/bin`;
        command(path, "echo v3.300.1");
        expect((await planEngine()).result.source).toBe("compiled");
        command(join(cache, "bin", "pulumi-language-nodejs"));
        expect(await planEngine()).toEqual({ result: { path, version: "3.300.1", source: "found" } });
        command(path, "echo v3.200.0");
        expect((await planEngine()).result.source).toBe("compiled");
    });
});

test("Kubernetes is compiled where its server is out of reach", async () => {
    const { result, job } = await planKubernetes();
    expect(result).toBe(join(cache, "kubernetes-1.34.4"));
    expect(job).toMatchObject({ compiles: true, title: "Kubernetes 1.34.4 from source, about 6 min" });
});

describe("a plugin", () => {
    const installed = () => join(cache, "home", "plugins", "resource-docker-v5.2.0");

    test("is the user's own", async () => {
        command(join(installed(), "pulumi-resource-docker"));
        expect(await planPlugin("docker")).toEqual({ result: installed() });
    });

    test("that the user's installation did not finish is not used", async () => {
        command(join(installed(), "pulumi-resource-docker"));
        writeFileSync(`${installed()}.partial`, "");
        expect(await planPlugin("docker")).toEqual({ result: undefined });
    });

    test("is a stand-in where AKS_ACR_SANDBOX_PLUGINS asks for that", async () => {
        command(join(installed(), "pulumi-resource-docker"));
        process.env.AKS_ACR_SANDBOX_PLUGINS = "stand-in";
        expect(await planPlugin("docker")).toEqual({ result: undefined });
    });
});

describe("a download", () => {
    test("is out of reach for an hour after its host refused it, and then asked for again", async () => {
        let status = 503;
        const url = await serve(() => ({ status }));
        expect(await reachable(`${url}/file`)).toBe(false);
        status = 200;
        expect(await reachable(`${url}/file`)).toBe(false);
        const anHourAgo = new Date(Date.now() - 3_600_001);
        utimesSync(join(cache, "out-of-reach", new URL(url).host), anHourAgo, anHourAgo);
        expect(await reachable(`${url}/file`)).toBe(true);
    });

    test("that does not exist says nothing about its host", async () => {
        const url = await serve((path) => ({ status: path === "/there" ? 200 : 404 }));
        expect(await reachable(`${url}/gone`)).toBe(false);
        expect(await reachable(`${url}/there`)).toBe(true);
    });

    test("is refused when it does not match its checksum", async () => {
        const list = `${"0".repeat(64)}  file\n`;
        const url = await serve((path) => ({
            status: 200,
            body: path === "/file" ? "content" : list,
        }));
        await expect(download(`${url}/file`, join(cache, "file"), ignore, `${url}/sums`)).rejects.toThrow(
            `${url}/file does not match ${url}/sums. Run the command again; if it stays so, do not use it.`,
        );
    });

    test("passes with its checksum, and where there is no list of checksums", async () => {
        const sha256 = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
        const url = await serve((path) =>
            path === "/none" ? { status: 404 } : { status: 200, body: path === "/file" ? "content" : sha256 },
        );
        await download(`${url}/file`, join(cache, "file"), ignore, `${url}/sum`);
        await download(`${url}/file`, join(cache, "file"), ignore, `${url}/none`);
    });

    test("has its checksum in a list by name", () => {
        expect(checksumOf("aa  one.tar.gz\nbb *two.tar.gz\n", "two.tar.gz")).toBe("bb");
        expect(checksumOf("aa  one.tar.gz\nbb  two.tar.gz\n", "tar.gz")).toBeUndefined();
        expect(checksumOf("cc\n", "kubelet")).toBe("cc");
    });
});

describe("the cache", () => {
    test("fills a directory once, however many ask for it", async () => {
        let made = 0;
        const make = async (directory: string) => {
            made += 1;
            await new Promise((resolve) => setTimeout(resolve, 50));
            writeFileSync(join(directory, "file"), "");
        };
        const places = await Promise.all([cached("tool", ignore, make), cached("tool", ignore, make)]);
        expect(places).toEqual([join(cache, "tool"), join(cache, "tool")]);
        expect(made).toBe(1);
        expect(readdirSync(join(cache, "tool"))).toEqual(["file"]);
    });

    test("holds nothing of what failed, and tries again from the start", async () => {
        const fail = async (directory: string) => {
            writeFileSync(join(directory, "half"), "");
            throw new Error("no space");
        };
        await expect(cached("tool", ignore, fail)).rejects.toThrow("no space");
        expect(existsSync(join(cache, "tool"))).toBe(false);
        await cached("tool", ignore, async (directory) => writeFileSync(join(directory, "whole"), ""));
        expect(readdirSync(join(cache, "tool"))).toEqual(["whole"]);
    });

    test("says that a job waits for its turn", async () => {
        const said: string[] = [];
        const first = locked("go", ignore, () => new Promise((resolve) => setTimeout(resolve, 600)));
        await new Promise((resolve) => setTimeout(resolve, 100));
        await locked(
            "go",
            (detail) => said.push(detail),
            async () => undefined,
        );
        await first;
        expect(said).toEqual(["waits for its turn"]);
    });
});

describe("Debian", () => {
    test("dependencies are read with their alternatives and without versions", () => {
        expect(dependencies("libc6 (>= 2.34), debconf (>= 0.5) | debconf-2.0, zlib1g:any\n")).toEqual([
            ["libc6"],
            ["debconf", "debconf-2.0"],
            ["zlib1g"],
        ]);
        expect(dependencies("\n")).toEqual([]);
    });

    test("a distribution is called after its id and code name", () => {
        expect(distribution('ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n')).toBe(
            "debian-bookworm",
        );
        expect(distribution('NAME="x"\nID="ubuntu"\nVERSION_CODENAME="noble"\n')).toBe("ubuntu-noble");
    });
});

describe("progress", () => {
    const shown = () => {
        const texts: string[] = [];
        return { texts, write: (text: string) => texts.push(text) };
    };

    test("is lines without a terminal: at the start, every 20 seconds and at the end", async () => {
        jest.useFakeTimers();
        const screen = shown();
        let finish = ignore as () => void;
        const step = new Progress(2, screen).step("Kubernetes 1.34.4", (report) => {
            report("compiles \u001b[1mk8s.io/api\u001b[0m\n");
            return new Promise<void>((resolve) => {
                finish = resolve;
            });
        });
        jest.advanceTimersByTime(65_000);
        finish();
        await step;
        jest.useRealTimers();
        expect(screen.texts).toEqual([
            "[1/2] Kubernetes 1.34.4\n",
            "[1/2] Kubernetes 1.34.4: 20 s, compiles k8s.io/api\n",
            "[1/2] Kubernetes 1.34.4: 40 s, compiles k8s.io/api\n",
            "[1/2] Kubernetes 1.34.4: 1 min 00 s, compiles k8s.io/api\n",
            "[1/2] Kubernetes 1.34.4: done in 1 min 05 s\n",
        ]);
    });

    test("is a line per running step on a terminal, cut to its width, below what has ended", async () => {
        const screen = Object.assign(shown(), { isTTY: true, columns: 20 });
        const progress = new Progress(2, screen);
        let finish = ignore as () => void;
        const first = progress.step("first", () => new Promise<void>((resolve) => (finish = resolve)));
        await progress.step("second", async () => undefined);
        finish();
        await first;
        expect(screen.texts).toEqual([
            "[1/2] first: 0 s\n",
            "\u001b[1A\u001b[J[1/2] first: 0 s\n[2/2] second: 0 s\n",
            "\u001b[2A\u001b[J[2/2] second: done in 0 s\n[1/2] first: 0 s\n",
            "\u001b[1A\u001b[J[1/2] first: done in 0 s\n",
        ]);
    });

    test("says that a step failed, and passes the error on", async () => {
        const screen = shown();
        const failing = new Progress(1, screen).step("one", () => Promise.reject(new Error("no")));
        await expect(failing).rejects.toThrow("no");
        expect(screen.texts.at(-1)).toBe("[1/1] one: failed after 0 s\n");
    });

    test("durations are said in seconds and minutes", () => {
        expect([400, 59_000, 60_000, 725_000].map(duration)).toEqual([
            "0 s",
            "59 s",
            "1 min 00 s",
            "12 min 05 s",
        ]);
    });
});

test("a command that fails shows its last lines, its log and what helps", async () => {
    const log = join(cache, "logs", "sh.log");
    const lines = Array.from({ length: 20 }, (_, index) => `line ${index}`);
    const options = { cwd: cache, environment: { WHAT: "line 20" }, log, report: ignore, advice: "Do this." };
    const failed = run("sh", ["-c", `printf '%s\\n' '${lines.join("' '")}'; echo "$WHAT"; exit 3`], options);
    const shown = [...lines, "line 20"].slice(-15).map((line) => `  | ${line}\n`);
    await expect(failed).rejects.toThrow(
        `sh ended with exit code 3. Its last lines:\n${shown.join("")}Its whole output is in ${log}. Do this.`,
    );
});
