import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, request } from "undici";
import { writePrivate } from "./certificates";
import { dockerAnswers } from "./docker";
import { defaultStack, engineEnvironment, layOutEngine, makeStack, pulumi, stackNames } from "./engine";
import { checkout, home, id, makeHome, paths } from "./home";
import { mirrorCheckout } from "./mirror";
import { cleanUp } from "./processes";
import { duration, lastLines } from "./progress";
import { showResult, showStacks } from "./result";
import { installTools } from "./tools";

// The sandbox's commands: `npm start`, `npm stop`, `npm run sandbox -- <pulumi arguments>`, `npm run sandbox:azure -- ...`, `npm run sandbox:promote`.

const authority = join(paths.certificates, "authority.crt");

// Some commands take as long as a download or a build.
const dispatcher = new Agent({ connect: { socketPath: paths.control }, headersTimeout: 0 });

/** Sends a command to the services process. @throws Error with what it says, or ENOENT/ECONNREFUSED where there is none. */
async function control<T>(command: string, body: object = {}): Promise<T> {
    const options = { dispatcher, method: "POST", body: JSON.stringify(body) } as const;
    const answer = await request(`http://services/${command}`, options);
    const said = (await answer.body.json()) as T & { error?: string };
    if (answer.statusCode === 200) return said;
    throw new Error(said.error ?? `the services process answered ${answer.statusCode}`);
}

interface Status {
    /** Where the services process takes the calls of the provider stand-ins. */
    port: number;
    /** The Docker daemon's; left out where that did not start. */
    dockerSocket?: string;
}

const status = () => control<Status>("status").catch(() => undefined);

/** Brings up what is not running and resolves to the environment that `pulumi` needs. */
async function bringUp(): Promise<NodeJS.ProcessEnv> {
    const since = Date.now();
    let running = await status();
    if (!running) {
        const tools = await installTools({ docker: !(await dockerAnswers()) });
        await cleanUp(id, home);
        makeHome();
        writePrivate(paths.tools, JSON.stringify(tools));
        running = await startServices();
        layOutEngine(tools, running.port);
        console.error(
            `The sandbox is up after ${duration(Date.now() - since)}; state and logs are in .sandbox/.`,
        );
    }
    for (const name of mirrorCheckout(checkout, paths.project)) {
        const before = join(relative(checkout, paths.project), `${name}.before`);
        console.error(
            `${name} has changed and is taken as it is; what \`config set\` made of it here is in ${before}.`,
        );
    }
    // The stand-in waits for the base image by itself.
    if (JSON.parse(readFileSync(paths.tools, "utf8")).plugins.docker) await control("docker");
    const environment = engineEnvironment(authority, running.dockerSocket);
    // Whoever renames it is not given it again.
    if (stackNames().length === 0) await makeStack(environment, defaultStack);
    return environment;
}

async function startServices(): Promise<Status> {
    const file = join(paths.logs, "services.log");
    const log = openSync(file, "a", 0o600);
    const child = spawn(process.execPath, ["--import", "tsx", join(__dirname, "services.ts")], {
        cwd: home,
        detached: true,
        stdio: ["ignore", log, log],
    });
    closeSync(log);
    child.unref();
    while (child.exitCode === null && child.signalCode === null) {
        const running = await status();
        if (running) return running;
        await sleep(50);
    }
    throw new Error(
        `The sandbox's services ended with ${child.signalCode ?? `exit code ${child.exitCode}`}:\n` +
            `${lastLines(readFileSync(file, "utf8"))}The whole log is ${file}`,
    );
}

async function start(): Promise<number> {
    const environment = await bringUp();
    await makeStack(environment, defaultStack);
    const code = await pulumi(["up", "--yes", "--skip-preview", "--stack", defaultStack], environment);
    if (code === 0) await showResult(environment);
    return code;
}

async function stop(): Promise<number> {
    if (await status()) await control("stop");
    await cleanUp(id, home);
    if (existsSync(home)) console.error("The sandbox is stopped; `npm start` finds its state again.");
    return 0;
}

async function run(args: string[]): Promise<number> {
    return await pulumi(args, await bringUp());
}

/** Takes what dev is to run through all stacks, the next one only when the one before it runs; more arguments go to `pulumi up`. */
async function promote(args: string[]): Promise<number> {
    const environment = await bringUp();
    const stacks = [defaultStack, "staging", "prod"];
    for (const stack of stacks) await makeStack(environment, stack, "--no-select");
    console.log("\nBefore:");
    await showStacks(environment, stacks);
    for (const stack of stacks) {
        console.log(`\n${stack}:`);
        const code = await pulumi(["up", "--yes", "--skip-preview", "--stack", stack, ...args], environment);
        if (code !== 0) {
            console.error(
                `${stack} was not updated, and nothing behind it; what is above says why. Mend that, and promote again.`,
            );
            return code;
        }
    }
    console.log("\nAfter:");
    await showStacks(environment, stacks);
    return 0;
}

async function azure(args: string[]): Promise<number> {
    await bringUp();
    const { output } = await control<{ output: string }>("azure", { args });
    console.log(output);
    return 0;
}

const commands: Record<string, (args: string[]) => Promise<number>> = { start, stop, run, promote, azure };

const [command = "", ...args] = process.argv.slice(2);
commands[command]?.(args).then(
    (code) => process.exit(code),
    (error: Error) => {
        console.error(error.message);
        process.exit(1);
    },
);
