import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { join, relative } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { writePrivate } from "./certificates";
import { dockerAnswers } from "./docker";
import {
    defaultStack,
    engineEnvironment,
    layOutEngine,
    makeStacks,
    pulumi,
    selectDefaultStack,
} from "./engine";
import { checkout, home, id, makeHome, paths } from "./home";
import { mirrorCheckout } from "./mirror";
import { cleanUp } from "./processes";
import { duration } from "./progress";
import { showResult, showStacks } from "./result";
import { installTools } from "./tools";

// The sandbox's commands: `npm start`, `npm stop`, `npm run sandbox -- <pulumi arguments>`, `npm run sandbox:azure -- ...`, `npm run sandbox:promote`.

const authority = join(paths.certificates, "authority.crt");

/** Sends a command to the services process. @throws Error with what it says, or ENOENT/ECONNREFUSED where there is none. */
async function control<T>(command: string, body: object = {}): Promise<T> {
    return await new Promise<T>((resolve, reject) => {
        const call = request(
            { socketPath: paths.control, path: `/${command}`, method: "POST" },
            async (response) => {
                const answer = JSON.parse(await text(response));
                if (response.statusCode === 200) resolve(answer);
                else
                    reject(new Error(answer.error ?? `the services process answered ${response.statusCode}`));
            },
        );
        call.on("error", reject);
        call.end(JSON.stringify(body));
    });
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
    await selectDefaultStack(environment);
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
    const ended = new Promise<never>((_, reject) =>
        child.once("exit", (code) => {
            const last = readFileSync(file, "utf8").trimEnd().split("\n").slice(-15).join("\n");
            reject(
                new Error(
                    `The sandbox's services ended with exit code ${code}:\n${last}\nThe whole log is ${file}`,
                ),
            );
        }),
    );
    const answers = async () => {
        for (;;) {
            const running = await status();
            if (running) return running;
            await sleep(50);
        }
    };
    return await Promise.race([answers(), ended]);
}

async function start(): Promise<number> {
    const environment = await bringUp();
    await selectDefaultStack(environment, true);
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
    await makeStacks(environment, stacks);
    console.log("\nBefore:");
    await showStacks(environment, stacks);
    for (const stack of stacks) {
        console.log(`\n${stack}:`);
        const code = await pulumi(["up", "--yes", "--skip-preview", "--stack", stack, ...args], environment);
        if (code !== 0) return code;
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
