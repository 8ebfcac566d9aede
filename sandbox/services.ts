import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { json } from "node:stream/consumers";
import { parseArgs } from "node:util";
import { runAzureCommand } from "./azure/commands";
import type { Infrastructure } from "./azure/infrastructure";
import { Azure, type State } from "./azure/model";
import { azureNativeProvider } from "./azure/provider";
import { registries as registryType } from "./azure/registries";
import { type Certificate, certificateIn, writePrivate } from "./certificates";
import { type Docker, ensureBaseImage, removeBaseImage, startDocker } from "./docker";
import { checkout, id, paths, runDirectory } from "./home";
import { openIdentity, serveIdentityEndpoint } from "./identity";
import { type Cluster, startCluster } from "./kubernetes/cluster";
import { serveTokenReview, tokenReviewKubeconfig } from "./kubernetes/token-review";
import { enterCgroup, Processes } from "./processes";
import { type Provider, type Report, serve } from "./provider";
import { dockerProvider } from "./providers/docker";
import { kubernetesProvider } from "./providers/kubernetes";
import { randomProvider } from "./providers/random";
import { findFreePorts, portCount, type RunningRegistry, registryPorts, startRegistry } from "./registry";
import { logInToRegistry } from "./registry-login";
import type { Tools } from "./tools";

// The one long-lived process of a sandbox: Azure's control plane over one model, the provider stand-ins, and the
// docker daemon, registries and clusters that it starts. The command line (cli.ts) starts it and talks to its socket.

/** What survives a restart. */
interface Saved {
    /** First of the ports that registries use; image names contain it, so it is kept. */
    firstPort: number;
    /** Port of each registry, by resource id. */
    ports: Record<string, number>;
    azure?: State;
}

interface RunningCluster {
    cluster: Cluster;
    /** Ends what answers the cluster's node. */
    leave(): void;
}

const tools = JSON.parse(readFileSync(paths.tools, "utf8")) as Tools;
const processes = new Processes({ id, logDirectory: paths.logs });
/** Signs the registries' certificates; set before anything is started. */
let authority: Certificate;
const authorityFile = join(paths.certificates, "authority.crt");
const identity = openIdentity(join(paths.certificates, "identity.key"));
const registries = new Map<string, RunningRegistry>();
const clusters = new Map<string, RunningCluster>();
/** Client id of the identity that each cluster's kubelet pulls as, by the cluster's resource id. */
const kubeletClientIds = new Map<string, string>();
/** Where clusters' nodes reach this machine; known before a cluster is up, for a registry may come up meanwhile. */
const gateways = new Set<string>();

/** File name for a resource: short, readable, and never the same for two. */
function fileName(resourceId: string): string {
    const name = resourceId.toLowerCase().split("/").at(-1) ?? "";
    const hash = createHash("sha256").update(resourceId.toLowerCase()).digest("hex");
    return `${name.replace(/[^a-z0-9]+/g, "-").slice(0, 20)}-${hash.slice(0, 6)}`;
}

const infrastructure: Infrastructure = {
    async startRegistry({ id: registryId, name }) {
        const known = registries.get(registryId);
        if (known) return { loginServer: known.loginServer };
        const port = portOf(registryId);
        const registry = await startRegistry({
            id: registryId,
            name: name.toLowerCase(),
            directory: join(paths.registries, name.toLowerCase()),
            port,
            socket: join(runDirectory, `registry-${port}.sock`),
            binary: join(tools.packages, "bin", "docker-registry"),
            authority,
            identity,
            access: {
                permits: (principal, registry, action) =>
                    action === "pull"
                        ? azure.canPull(principal, registry)
                        : azure.canPush(principal, registry),
                mode: (registry) =>
                    azure.resource(registry)?.body.roleAssignmentMode ?? "LegacyRegistryPermissions",
            },
            processes,
        });
        registries.set(registryId, registry);
        await Promise.all([...gateways].map((gateway) => registry.listen(gateway)));
        return { loginServer: registry.loginServer };
    },

    async stopRegistry({ id: registryId }) {
        await registries.get(registryId)?.destroy();
        registries.delete(registryId);
        delete saved.ports[registryId];
    },

    async startCluster({ id: clusterId, kubeletClientId }) {
        kubeletClientIds.set(clusterId, kubeletClientId);
        const running = clusters.get(clusterId) ?? (await newCluster(clusterId));
        clusters.set(clusterId, running);
        return { kubeconfig: running.cluster.kubeconfig, fqdn: new URL(running.cluster.server).hostname };
    },

    async stopCluster({ id: clusterId }) {
        const running = clusters.get(clusterId);
        running?.leave();
        await running?.cluster.destroy();
        clusters.delete(clusterId);
    },
};

async function newCluster(clusterId: string): Promise<RunningCluster> {
    const name = fileName(clusterId);
    const directory = join(paths.clusters, name);
    const executable = join(directory, "bin", "acr-credential-provider");
    const tokenReview = join(directory, "token-review.kubeconfig");
    const stops: (() => void)[] = [];
    const leave = () => {
        for (const stop of stops) stop();
    };
    /** Answers the cluster's node, and nobody else, at the host's end of the cluster's network. */
    const joined = async (gateway: string, node: string) => {
        gateways.add(gateway);
        stops.push(() => {
            gateways.delete(gateway);
            for (const registry of registries.values()) registry.unlisten(gateway);
        });
        await Promise.all([...registries.values()].map((registry) => registry.listen(gateway)));
        const place = { address: gateway, clients: [node, gateway] };
        const identities = await serveIdentityEndpoint(place, identity, () => {
            const kubelet = azure.find(kubeletClientIds.get(clusterId) ?? "");
            return kubelet && { objectId: kubelet.objectId, tenantId: azure.tenantId };
        });
        stops.push(identities.stop);
        // Of a cluster without Microsoft Entra the model knows no users.
        const reviews = await serveTokenReview(place, identity, (objectId) =>
            azure.clusterUser(clusterId, objectId),
        );
        stops.push(reviews.stop);
        writeCredentialProvider(executable, identities.url);
        writePrivate(tokenReview, tokenReviewKubeconfig(reviews.url));
    };
    try {
        const spec = {
            name,
            directory,
            runDirectory: join(runDirectory, name),
            tools,
            registry: { ports: registryPorts(saved.firstPort), certificateAuthority: authorityFile },
            credentialProvider: { executable, env: {} },
            tokenReview,
            joined,
        };
        return { cluster: await startCluster(spec, processes), leave };
    } catch (error) {
        leave();
        throw error;
    }
}

/** Writes the program that kubelet runs for every pull from one of the registries, under the name that AKS's has. */
function writeCredentialProvider(file: string, identityEndpoint: string): void {
    const lines = [
        "#!/bin/sh",
        `export AKS_ACR_IDENTITY_ENDPOINT='${identityEndpoint}'`,
        `export NODE_EXTRA_CA_CERTS='${authorityFile}'`,
        `exec '${process.execPath}' '${join(__dirname, "credential-provider.mjs")}'`,
    ];
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, `${lines.join("\n")}\n`, { mode: 0o700 });
}

const saved: Saved = existsSync(paths.azure)
    ? JSON.parse(readFileSync(paths.azure, "utf8"))
    : { firstPort: 0, ports: {} };
const azure = new Azure({ infrastructure, state: saved.azure, onChange: save });
/** The docker daemon, once it answers. */
let docker: Docker | undefined;

function save(): void {
    writePrivate(paths.azure, JSON.stringify({ ...saved, azure: azure.toJSON() }));
}

/** The registry's own port for life: the first of the sandbox's block that no other registry has. */
function portOf(registryId: string): number {
    const taken = Object.values(saved.ports);
    const free = registryPorts(saved.firstPort).find((port) => !taken.includes(port));
    const port = saved.ports[registryId] ?? free;
    if (port === undefined) throw new Error(`The sandbox can run ${portCount} registries; delete one first.`);
    saved.ports[registryId] = port;
    return port;
}

/** The provider stand-ins; each connection of the engine gets an instance of its own. */
const providers: Record<string, (directory: string) => (report: Report) => Provider> = {
    "azure-native": () => azureNativeProvider(azure, { forCaller: callerToken }),
    docker: (directory) =>
        dockerProvider({
            directory,
            socketPath: async () => (await usableDocker()).socketPath,
            configuration: paths.dockerConfiguration,
            authority: authority.certificate,
        }),
    kubernetes: () => kubernetesProvider,
    random: () => randomProvider,
};

function callerToken(audience: string): string {
    return identity.tokenFor({ ...azure.caller, tenantId: azure.tenantId }, audience);
}

/** Work that is done once; what failed is tried again when it is next needed. */
function onceDone<T>(work: () => Promise<T>): () => Promise<T> {
    let done: Promise<T> | undefined;
    return () => {
        done ??= work().catch((error) => {
            done = undefined;
            throw error;
        });
        return done;
    };
}

const answeringDocker = onceDone(async () => {
    docker = await startDocker({
        tools,
        processes,
        directory: paths.docker,
        runDirectory: join(runDirectory, "docker"),
    });
    return docker;
});

/** The docker daemon with the base image in it. */
const usableDocker = onceDone(async () => {
    const started = await answeringDocker();
    await ensureBaseImage(started, baseImage());
    return started;
});

/** What app/Dockerfile builds on. */
function baseImage(): string {
    const file = join(checkout, "app", "Dockerfile");
    const dockerfile = existsSync(file) ? readFileSync(file, "utf8") : "";
    return /^FROM\s+(\S+)/m.exec(dockerfile)?.[1] ?? "nginx";
}

/** Takes the plugin scripts' connections: one line `<name> TAB <engine address> TAB <directory>` in, one port out. */
const plugins = createTcpServer((socket) => {
    const lines = createInterface(socket);
    lines.once("line", async (line) => {
        const [name = "", engineAddress = "", directory = ""] = line.split("\t");
        const factory = providers[name]?.(directory);
        if (!factory) return void socket.end();
        const instance = await serve(factory, engineAddress);
        socket.on("close", instance.stop);
        socket.write(`${instance.port}\n`);
    });
    socket.on("error", () => socket.destroy());
});

/** Answers the command line; the socket is its owner's only. */
const control = createHttpServer(async (request, response) => {
    try {
        const body = (await json(request)) as { args?: string[] };
        const answer = await commands[request.url?.slice(1) ?? ""]?.(body);
        response.writeHead(200).end(JSON.stringify(answer ?? {}));
    } catch (error) {
        response.writeHead(500).end(JSON.stringify({ error: (error as Error).message }));
    }
});

const commands: Record<string, (body: { args?: string[] }) => Promise<unknown> | unknown> = {
    status: () => ({ port: (plugins.address() as AddressInfo).port, dockerSocket: docker?.socketPath }),
    docker: async () => void (await usableDocker()),
    azure: async ({ args = [] }) => ({
        output: /^acr login\b/.test(args.join(" "))
            ? await logIn(args.slice(2))
            : await runAzureCommand(azure, args),
    }),
    token: ({ args: [audience = ""] = [] }) => ({ token: callerToken(audience) }),
    stop,
};

/** What `az acr login` does, as who is signed in. */
async function logIn(args: string[]): Promise<string> {
    const { name } = parseArgs({ args, options: { name: { type: "string", short: "n" } } }).values;
    if (!name) throw new Error("--name is missing: acr login --name <name>");
    const found = azure
        .resources(registryType.type)
        .find((each) => each.name.toLowerCase() === name.toLowerCase());
    const loginServer = found && registries.get(found.id)?.loginServer;
    if (!loginServer) throw new Error(`There is no registry ${name}; \`resource list\` shows all.`);
    await logInToRegistry({
        loginServer,
        accessToken: callerToken("https://containerregistry.azure.net"),
        tenantId: azure.tenantId,
        authority: authority.certificate,
        directory: paths.dockerConfiguration,
    });
    return "Login Succeeded";
}

async function stop(): Promise<void> {
    plugins.close();
    await Promise.all([
        ...[...registries.values()].map((registry) => registry.stop()),
        ...[...clusters.values()].map(({ cluster, leave }) => {
            leave();
            return cluster.stop();
        }),
        docker && removeBaseImage(docker, baseImage()).then(docker.stop),
    ]);
    save();
    // After the answer is out.
    setTimeout(() => process.exit(0), 50);
}

async function boot(): Promise<void> {
    // So that whatever hangs here is found, too, when the sandbox is cleaned up.
    enterCgroup(id, "services");
    const subject = { commonName: `aks-acr sandbox ${id}`, use: "authority" } as const;
    authority = await certificateIn(paths.certificates, "authority", subject);
    if (!saved.firstPort) saved.firstPort = await findFreePorts();
    save();
    usableDocker().catch((error) => console.error(error));
    // The program asks docker before anything else; without one it says so, and the rest goes on.
    await Promise.all([azure.resume(), answeringDocker().catch(() => undefined)]);
    await new Promise<void>((resolve) => plugins.listen(0, "127.0.0.1", resolve));
    rmSync(paths.control, { force: true });
    await new Promise<void>((resolve) => control.listen(paths.control, resolve));
    chmodSync(paths.control, 0o600);
}

boot().catch((error) => {
    console.error(error);
    process.exit(1);
});
