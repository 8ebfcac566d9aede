// The Node.js language host for an engine that was compiled from its Go modules, where the vendor's own
// host is not to be had: the engine starts it, asks it to run the program, and stops it.
// Plain CommonJS without a loader: every preview and every update waits for it to start.
const { spawn } = require("node:child_process");
const { createRequire } = require("node:module");
const { parseArgs } = require("node:util");
const grpc = require("@grpc/grpc-js");
const { Empty } = require("google-protobuf/google/protobuf/empty_pb");
const { LanguageRuntimeService } = require("@pulumi/pulumi/proto/language_grpc_pb");
const language = require("@pulumi/pulumi/proto/language_pb");
const plugin = require("@pulumi/pulumi/proto/plugin_pb");

/** Exit code of a program that has already told the user what went wrong. */
const alreadyReported = 32;
const children = new Set();
const { positionals } = parseArgs({ strict: false, allowPositionals: true });
const engineAddress = positionals.at(-1) ?? "";

/** Runs a file of an npm package that the program has, in the program's directory. */
function start(file, args, info, environment, output) {
    const cwd = info.getProgramDirectory();
    const { nodeargs = "" } = optionsOf(info);
    const resolved = createRequire(`${cwd}/package.json`).resolve(file);
    const nodeArguments = nodeargs.split(" ").filter(Boolean);
    const env = { ...process.env, ...environment };
    const stdio = ["ignore", output, output];
    const child = spawn(process.execPath, [...nodeArguments, resolved, ...args], { cwd, env, stdio });
    children.add(child);
    return child.on("exit", () => children.delete(child));
}

const optionsOf = (info) => info.getOptions()?.toJavaScript() ?? {};

function run({ request }, callback) {
    const info = request.getInfo();
    const args = [
        `--monitor=${request.getMonitorAddress()}`,
        `--engine=${engineAddress}`,
        `--project=${request.getProject()}`,
        `--stack=${request.getStack()}`,
        `--organization=${request.getOrganization()}`,
        `--parallel=${request.getParallel()}`,
        `--pwd=${request.getPwd()}`,
        ...(request.getDryrun() ? ["--dry-run"] : []),
        info.getEntryPoint(),
        ...request.getArgsList(),
    ];
    const environment = {
        PULUMI_NODEJS_TYPESCRIPT: String(optionsOf(info).typescript ?? true),
        PULUMI_CONFIG: JSON.stringify(Object.fromEntries(request.getConfigMap().toObject(true))),
        PULUMI_CONFIG_SECRET_KEYS: JSON.stringify(request.getConfigsecretkeysList()),
    };
    const child = start("@pulumi/pulumi/cmd/run", args, info, environment, "inherit");
    child.on("exit", (code, signal) => {
        const response = new language.RunResponse();
        if (code === alreadyReported) response.setBail(true);
        else if (code !== 0) response.setError(`the program ended with ${signal ?? `exit code ${code}`}`);
        callback(null, response);
    });
}

/** Runs a policy pack; the engine asks for no other plugin that is written in TypeScript. */
function runPlugin(call) {
    const info = call.request.getInfo();
    const args = [...call.request.getArgsList(), info.getProgramDirectory()];
    const environment = Object.fromEntries(
        call.request.getEnvList().map((entry) => entry.split(/=(.*)/s, 2)),
    );
    const child = start("@pulumi/pulumi/cmd/run-policy-pack", args, info, environment, "pipe");
    const send = (set, value) => {
        const response = new language.RunPluginResponse();
        response[set](value);
        call.write(response);
    };
    child.stdout.on("data", (data) => send("setStdout", data));
    child.stderr.on("data", (data) => send("setStderr", data));
    child.on("close", (code) => {
        send("setExitcode", code ?? 1);
        call.end();
    });
}

function stop() {
    for (const child of children) child.kill("SIGTERM");
}

const answer = (Response, fill) => (_call, callback) => {
    const response = new Response();
    fill?.(response);
    callback(null, response);
};

const server = new grpc.Server({ "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 });
server.addService(LanguageRuntimeService, {
    handshake: answer(language.LanguageHandshakeResponse),
    getRequiredPackages: answer(language.GetRequiredPackagesResponse),
    getPluginInfo: answer(plugin.PluginInfo, (info) =>
        info.setVersion(require("@pulumi/pulumi/package.json").version),
    ),
    about: answer(language.AboutResponse, (about) => {
        about.setExecutable(process.execPath);
        about.setVersion(process.version);
    }),
    getProgramDependencies: answer(language.GetProgramDependenciesResponse),
    run,
    runPlugin,
    cancel: (_call, callback) => {
        stop();
        callback(null, new Empty());
    },
});
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error;
    process.stdout.write(`${port}\n`);
});
function end() {
    stop();
    process.exit(0);
}
process.on("SIGTERM", end);
// An engine that was killed, or that failed, says nothing; what it held open closes.
process.stdin.on("close", end).resume();
