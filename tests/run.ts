import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

// `npm test`: types, lint and formatting, unit tests, then the engine tests against a sandbox of their own.

const checkout = resolve(__dirname, "..");
const results = mkdtempSync(join(tmpdir(), "aks-acr-test-"));
let passed = 0;
let failed = 0;

/** Runs a program of node_modules/.bin on this terminal; resolves to whether it succeeded. */
function run(command: string, args: string[]): Promise<boolean> {
    const child = spawn(join(checkout, "node_modules", ".bin", command), args, {
        cwd: checkout,
        stdio: ["ignore", "inherit", "inherit"],
    });
    return new Promise((done, reject) => child.on("error", reject).on("exit", (code) => done(code === 0)));
}

/** A check that is one test: it passes or fails as a whole. */
async function check(name: string, command: string, args: string[]): Promise<void> {
    const succeeded = await run(command, args);
    console.log(`${succeeded ? "passed" : "FAILED"}: ${name}`);
    if (succeeded) passed++;
    else failed++;
}

async function jest(project: string, ...more: string[]): Promise<void> {
    const outputFile = join(results, `${project}.json`);
    const succeeded = await run("jest", [
        "--selectProjects",
        project,
        "--json",
        `--outputFile=${outputFile}`,
        ...more,
    ]);
    const { numPassedTests, numFailedTests, numRuntimeErrorTestSuites } = JSON.parse(
        readFileSync(outputFile, "utf8"),
    );
    passed += numPassedTests;
    failed += numFailedTests + numRuntimeErrorTestSuites;
    // Jest can fail without a failed test, for instance when there is none.
    if (!succeeded && numFailedTests + numRuntimeErrorTestSuites === 0) failed++;
}

async function all(): Promise<void> {
    await Promise.all([
        check("types (tsc --noEmit)", "tsc", ["--noEmit"]),
        check("lint and formatting (biome check)", "biome", ["check", "--error-on-warnings"]),
    ]);
    await jest("unit");
    await jest("engine", "--runInBand");
    rmSync(results, { recursive: true });
    console.log(`${passed} passed, ${failed} failed`);
    process.exit(failed === 0 ? 0 : 1);
}

all().catch((error) => {
    console.error(error);
    process.exit(1);
});
