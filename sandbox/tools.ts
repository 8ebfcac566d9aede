import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { accessSync, constants, existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { chmod, mkdir, rm, statfs } from "node:fs/promises";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { cacheDirectory, cached, locked, logOf, type Make } from "./cache";
import { distribution, installPackages, missingLibraries, unpackPackages } from "./debian";
import { download, reachable } from "./download";
import { makeNginxImage, recipe } from "./nginx";
import { Progress, type Report, run, type Screen } from "./progress";

/** The Pulumi CLI, and how it came here. */
export interface Engine {
    path: string;
    /** Without a leading v. */
    version: string;
    /** A compiled one comes without a language host for Node.js. */
    source: "found" | "downloaded" | "compiled";
}

/** Everything the sandbox runs that is not in node_modules; all paths are absolute. */
export interface Tools {
    pulumi: Engine;
    /** Directory of the vendor's plugin (it holds `pulumi-resource-<name>`); undefined where a stand-in is needed. */
    plugins: Record<PluginName, string | undefined>;
    /** Directory of kube-apiserver, kube-controller-manager, kube-scheduler, kubelet and kube-proxy. */
    kubernetes: string;
    /** Holds `bin/` (containerd and its shims, ctr, runc, etcd, docker-registry, busybox, dockerd) and `cni/`. */
    packages: string;
}

/** Plugins that the program needs besides azure-native's. */
export type PluginName = (typeof pluginNames)[number];
const pluginNames = ["docker", "kubernetes", "random"] as const;

/** Debian packages that are unpacked, not installed: nothing of them starts, listens or changes the system. */
const nodePackages =
    "busybox-static containerd containernetworking-plugins docker-registry etcd-server runc".split(" ");
/** Commands that a node needs, and the packages that are installed where they are missing. */
const commandPackages = {
    iptables: "iptables",
    conntrack: "conntrack",
    ip: "iproute2",
    nsenter: "util-linux",
};
/** Programs of a node and its control plane that are Kubernetes' own. */
export const kubernetesCommands =
    "kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy".split(" ");
/** The first Go that fetches by itself the newer one that a go.mod asks for ("Go Toolchains"). */
const oldestGo = "1.21";
/** Bytes that both compilations took in their caches, and their results. */
const spaceToCompile = 9e9;
const architectures: Record<string, string> = { x64: "amd64", arm64: "arm64" };
const architecture = architectures[process.arch];
const execute = promisify(execFile);

/** Whether a version such as `v3.260.0-alpha.1` or `go1.24` is `minimum` or newer; a missing part counts as 0. */
export function atLeast(version: string, minimum: string): boolean {
    const parts = (text: string) => /\d+(\.\d+)*/.exec(text)?.[0].split(".").map(Number) ?? [];
    const [have, want] = [parts(version), parts(minimum)];
    const difference = want.map((part, index) => (have[index] ?? 0) - part).find((part) => part !== 0);
    return have.length > 0 && (difference ?? 0) >= 0;
}

/** The version a go.mod requires of a module, without the leading v; throws if it requires none. */
export function requiredVersion(goMod: string, module: string): string {
    const version = new RegExp(`^(?:\\trequire |\\t|require )${module} v(\\S+)`, "m").exec(goMod)?.[1];
    if (version === undefined) throw new Error(`go.mod does not require ${module}`);
    return version;
}

/** What keeps the sandbox from running on a machine, each with what helps. */
export function machineProblems(machine = thisMachine()): string[] {
    const container = 'docker run --privileged -it -v "$PWD":/work -w /work node:24-bookworm npm start';
    if (machine.platform !== "linux") return [`It needs Linux. Run it in a container: ${container}`];
    return [
        atLeast(machine.node, "20.20") || `Node.js ${machine.node} is too old. Install 20.20 or newer.`,
        machine.architecture in architectures ||
            `Use an x64 or arm64 machine; this is ${machine.architecture}.`,
        machine.root || "It must run as root. Repeat the command with sudo, or in a container.",
        machine.capable ||
            !machine.root ||
            "It may not set up networks. Start this container with --privileged.",
        machine.debian ||
            `It takes parts from Debian or Ubuntu packages. Run it in a container: ${container}`,
    ].filter((problem) => problem !== true);
}

async function compilingProblems(): Promise<string[]> {
    await mkdir(cacheDirectory(), { recursive: true });
    const { bavail, bsize } = await statfs(cacheDirectory());
    const why = "get.pulumi.com or dl.k8s.io is out of reach, so Pulumi or Kubernetes is compiled";
    return [
        !!(await findGo()) || `${why}, with Go. Install Go ${oldestGo} or newer, see go.dev/doc/install.`,
        bavail * bsize > spaceToCompile ||
            `${why}, in 9 GB. Free some, or set XDG_CACHE_HOME to a larger disk.`,
    ].filter((problem) => problem !== true);
}

function refuse(problems: string[]): void {
    if (problems.length > 0) throw new Error(["The sandbox cannot start.", ...problems].join("\n- "));
}

function thisMachine() {
    const status = process.platform === "linux" ? readFileSync("/proc/self/status", "utf8") : "";
    const held = BigInt(`0x${/^CapEff:\s*(\w+)/m.exec(status)?.[1] ?? "0"}`);
    const networkAndSystemAdministration = (1n << 12n) | (1n << 21n);
    return {
        platform: process.platform as string,
        architecture: process.arch as string,
        node: process.versions.node,
        root: process.getuid?.() === 0,
        capable: (held & networkAndSystemAdministration) === networkAndSystemAdministration,
        debian: ["apt-get", "dpkg-deb", "flock"].every((command) => findCommand(command)),
    };
}

/** The first file of that name that can be executed, in PATH or where PATH may lack it. */
function findCommand(name: string): string | undefined {
    const directories = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"].filter(Boolean);
    return directories.map((directory) => join(directory, name)).find(executable);
}

function executable(path: string): boolean {
    try {
        accessSync(path, constants.X_OK);
        return statSync(path).isFile();
    } catch {
        return false;
    }
}

/** A tool's place, and the job that puts it there if it is not there yet. */
export interface Plan<T> {
    result: T;
    job?: Job;
}

/** Work that is shown while it runs. */
export interface Job {
    title: string;
    compiles?: boolean;
    work(report: Report): Promise<unknown>;
}

/** The plan for a directory of the cache. */
function plan(name: string, title: string, make: Make, compiles = false): Plan<string> {
    const result = join(cacheDirectory(), name);
    if (existsSync(result)) return { result };
    return { result, job: { title, compiles, work: (report) => cached(name, report, make) } };
}

/** Compiles commands of the Go module in tools/; one compilation at a time, for each takes all cores. */
function compile(module: string, commands: string[], variables: string[]): Make {
    const flags = ["-s", "-w", ...variables.map((variable) => `-X ${variable}`)].join(" ");
    return (directory, report) =>
        locked("go", report, async () => {
            report("compiles");
            const args = ["build", "-v", "-o", `${directory}/`, "-ldflags", flags];
            await run((await findGo()) ?? "go", [...args, ...commands], {
                cwd: join(__dirname, "tools", module),
                environment: { GOWORK: "off", GOTOOLCHAIN: process.env.GOTOOLCHAIN ?? "auto" },
                log: logOf(module),
                report: (line) => report(`compiles ${line}`),
                advice: "See that `go env GOPROXY` can be reached, then run the command again; it goes on from there.",
            });
        });
}

/** A Go that can compile, in PATH or at its usual place. */
async function findGo(): Promise<string | undefined> {
    const local = { cwd: "/", env: { ...process.env, GOTOOLCHAIN: "local" } };
    for (const go of [findCommand("go"), "/usr/local/go/bin/go"]) {
        if (!go || !executable(go)) continue;
        const { stdout } = await execute(go, ["env", "GOVERSION"], local);
        if (atLeast(stdout, oldestGo)) return go;
    }
    return undefined;
}

/** Downloads an archive and unpacks it, without the first `strip` directories of its paths. */
function unpackArchive(url: string, strip: number, checksums?: string): Make {
    return async (directory, report) => {
        const archive = join(directory, "archive.tar.gz");
        await download(url, archive, report, checksums);
        await execute("tar", ["-xzf", archive, "-C", directory, `--strip-components=${strip}`]);
        await rm(archive);
    };
}

const packageVersion = (name: string): string =>
    createRequire(__filename)(`@pulumi/${name}/package.json`).version;
const goMod = (module: string) => readFileSync(join(__dirname, "tools", module, "go.mod"), "utf8");

/** The user's own CLI where it is new enough and has its language host; else the vendor's download; else a build. */
export async function planEngine(): Promise<Plan<Engine>> {
    const module = "github.com/pulumi/pulumi";
    const source = requiredVersion(goMod("pulumi"), `${module}/pkg/v3`);
    const found = await findEngine();
    if (found && atLeast(found.version, source)) return { result: found };
    const planned = (version: string, how: "downloaded" | "compiled", title: string, make: Make) => {
        const made = plan(`pulumi-${version}-${how}`, title, make, how === "compiled");
        return { ...made, result: { path: join(made.result, "pulumi"), version, source: how } };
    };
    const release = packageVersion("pulumi");
    const releases = "https://get.pulumi.com/releases/sdk";
    const url = `${releases}/pulumi-v${release}-linux-${process.arch}.tar.gz`;
    const unpack = unpackArchive(url, 1, `${releases}/pulumi-${release}-checksums.txt`);
    const downloaded = planned(release, "downloaded", `Pulumi ${release}`, unpack);
    const variables = [`${module}/sdk/v3/go/common/version.Version=v${source}`];
    const build = compile("pulumi", [`${module}/pkg/v3/cmd/pulumi`], variables);
    const compiled = planned(source, "compiled", `Pulumi ${source} from source, about 5 min`, build);
    const isWanted = !downloaded.job || (compiled.job && (await reachable(url)));
    return isWanted ? downloaded : compiled;
}

/** The user's own CLI, if the language host is beside it. */
async function findEngine(): Promise<Engine | undefined> {
    const path = findCommand("pulumi");
    const hasHost = (file: string) => executable(join(dirname(file), "pulumi-language-nodejs"));
    if (!path || !(hasHost(path) || hasHost(realpathSync(path)))) return undefined;
    const quiet = { PULUMI_SKIP_UPDATE_CHECK: "true", PULUMI_HOME: join(cacheDirectory(), "pulumi-home") };
    const asked = execute(path, ["version"], { env: { ...process.env, ...quiet } });
    const { stdout } = await asked.catch(() => ({ stdout: "" }));
    return { path, version: stdout.trim().replace(/^v/, ""), source: "found" };
}

/** The vendor's plugin where the user has it or it can be downloaded; else undefined, for the stand-in. */
export async function planPlugin(name: PluginName): Promise<Plan<string | undefined>> {
    if (process.env.AKS_ACR_SANDBOX_PLUGINS === "stand-in") return { result: undefined };
    const entry = `resource-${name}-v${packageVersion(name)}`;
    const users = join(process.env.PULUMI_HOME || join(homedir(), ".pulumi"), "plugins", entry);
    // The engine keeps a .partial file beside a plugin that it did not finish to install.
    if (executable(join(users, `pulumi-resource-${name}`)) && !existsSync(`${users}.partial`))
        return { result: users };
    const url = `https://get.pulumi.com/releases/plugins/pulumi-${entry}-linux-${architecture}.tar.gz`;
    const own = plan(entry, `Pulumi plugin ${name}`, unpackArchive(url, 0));
    return own.job && !(await reachable(url)) ? { result: undefined } : own;
}

/** The vendor's download, else a build. */
export async function planKubernetes(): Promise<Plan<string>> {
    const version = requiredVersion(goMod("kubernetes"), "k8s.io/kubernetes");
    const releases = `https://dl.k8s.io/v${version}/bin/linux/${architecture}`;
    const name = `kubernetes-${version}`;
    const downloaded = plan(name, `Kubernetes ${version}`, async (directory, report) => {
        for (const command of kubernetesCommands) {
            const [url, file] = [`${releases}/${command}`, join(directory, command)];
            await download(url, file, (detail) => report(`${command}: ${detail}`), `${url}.sha256`);
            await chmod(file, 0o755);
        }
    });
    if (!downloaded.job || (await reachable(`${releases}/kubelet`))) return downloaded;
    const [major, minor] = version.split(".");
    const values = [`gitVersion=v${version}`, `gitMajor=${major}`, `gitMinor=${minor}`];
    const variables = values.map((value) => `k8s.io/component-base/version.${value}`);
    const commands = kubernetesCommands.map((command) => `k8s.io/kubernetes/cmd/${command}`);
    const build = compile("kubernetes", commands, variables);
    return plan(name, `Kubernetes ${version} from source, about 6 min`, build, true);
}

/** Debian packages to unpack; their directory is called after the distribution and the list. */
function planPackages(packages: string[]): Plan<string> {
    const list = createHash("sha256").update(packages.join(" ")).digest("hex").slice(0, 8);
    const name = `${distribution()}-${list}`;
    const make: Make = (directory, report) => unpackPackages(packages, directory, report);
    return plan(name, `${packages.length} Debian packages`, make);
}

/**
 * Makes sure that everything the sandbox needs is on this machine, once, in `cacheDirectory()`; a moment where it is.
 * `docker`: whether a Docker daemon is among it, that is, none runs here. Only commands and shared libraries that are
 * missing get installed on the system, and are named first. Throws every reason why the sandbox cannot run on this
 * machine, before any work, or everything that failed of the work.
 */
export async function installTools({ docker, screen }: { docker: boolean; screen?: Screen }): Promise<Tools> {
    refuse(machineProblems());
    const packages = planPackages(docker ? [...nodePackages, "docker.io"] : nodePackages);
    const [engine, kubernetes, ...plugins] = await Promise.all([
        planEngine(),
        planKubernetes(),
        ...pluginNames.map(planPlugin),
    ]);
    const jobs = [engine, kubernetes, packages, ...plugins].flatMap((each: Plan<unknown>) => each.job ?? []);
    if (jobs.some((job) => job.compiles)) refuse(await compilingProblems());
    const commands = Object.entries(commandPackages).filter(([command]) => !findCommand(command));
    await work([...jobs, ...installation(commands.map(([, name]) => name))], screen);
    await work(installation(await missingLibraries(packages.result)), screen);
    return {
        pulumi: engine.result,
        plugins: Object.fromEntries(
            pluginNames.map((name, at) => [name, plugins[at]?.result]),
        ) as Tools["plugins"],
        kubernetes: kubernetes.result,
        packages: packages.result,
    };
}

/** The directory of an nginx image, `config.json` and `layer.tar`; made of Debian's packages the first time. */
export async function nginxImage(screen?: Screen): Promise<string> {
    const name = `nginx-${distribution()}-${recipe}`;
    const { result, job } = plan(name, "nginx image", makeNginxImage);
    await work(job ? [job] : [], screen);
    return result;
}

function installation(packages: string[]): Job[] {
    const work = (report: Report) => installPackages(packages, report);
    return packages.length > 0 ? [{ title: `apt-get install ${packages.join(" ")}`, work }] : [];
}

/** Does jobs side by side; all are done or have failed when it returns or throws. */
async function work(jobs: Job[], screen: Screen = process.stderr): Promise<void> {
    if (jobs.length > 0)
        screen.write(`Setting up this machine, only this time; it is kept in ${cacheDirectory()}\n`);
    const progress = new Progress(jobs.length, screen);
    const ends = await Promise.allSettled(jobs.map((job) => progress.step(job.title, job.work)));
    refuse(ends.flatMap((end) => (end.status === "rejected" ? [(end.reason as Error).message] : [])));
}
