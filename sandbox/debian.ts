import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { locked, logOf } from "./cache";
import { type Report, run } from "./progress";

const execute = promisify(execFile);

/** Id and code name of the distribution, e.g. `debian-bookworm`. */
export function distribution(release = readFileSync("/etc/os-release", "utf8")): string {
    const value = (key: string) => new RegExp(`^${key}="?([^"\\n]+)`, "m").exec(release)?.[1];
    return `${value("ID") ?? "linux"}-${value("VERSION_CODENAME") ?? value("VERSION_ID") ?? "rolling"}`;
}

/** Runs apt-get; where that fails, once more with fresh package lists. */
async function apt(args: string[], cwd: string, report: Report): Promise<void> {
    const options = {
        cwd,
        environment: { DEBIAN_FRONTEND: "noninteractive", NEEDRESTART_SUSPEND: "1" },
        log: logOf("apt"),
        report,
        advice: "See that the machine's package sources work (`apt-get update`), then run the command again.",
    };
    const asRoot = ["-o", "APT::Sandbox::User=root", "-o", "DPkg::Lock::Timeout=120"];
    await locked("apt", report, async () => {
        await run("apt-get", [...asRoot, ...args], options).catch(async () => {
            await run("apt-get", [...asRoot, "update"], options);
            await run("apt-get", [...asRoot, ...args], options);
        });
    });
}

/** Installs packages on the system, without what they only recommend. */
export async function installPackages(packages: string[], report: Report): Promise<void> {
    await apt(["install", "-y", "--no-install-recommends", ...packages], "/", report);
}

/** The packages in a `Depends` field, each with its alternatives, without versions. */
export function dependencies(field: string): string[][] {
    const name = (text: string) => text.trim().replace(/[ :(].*$/s, "");
    return field.split(",").flatMap((clause) => (clause.trim() ? [clause.split("|").map(name)] : []));
}

/** Whether a package holds a shared library. */
export const isLibrary = (name: string) => /^z?lib/.test(name);

/** Unpacks the packages where it runs below `directory`, and prints what each depends on. */
const unpack = `
    for name in bin sbin lib lib64; do
        mkdir -p "$directory/usr/$name"
        ln -sfn "usr/$name" "$directory/$name"
    done
    for file in *.deb; do
        dpkg-deb -f "$file" Depends
        # Unlike dpkg-deb -x this follows links such as /bin -> usr/bin instead of replacing them.
        dpkg-deb --fsys-tarfile "$file" | tar -x --keep-directory-symlink -C "$directory"
    done
`;

/** Downloads packages and copies their files below `directory`; resolves to what they depend on. */
export async function extract(packages: string[], directory: string, report: Report): Promise<string[][]> {
    const downloads = `${directory}.downloads`;
    await mkdir(downloads);
    await apt(["download", ...packages], downloads, report);
    const options = { cwd: downloads, env: { ...process.env, directory } };
    const { stdout } = await execute("sh", ["-ec", unpack], options);
    await rm(downloads, { recursive: true });
    return stdout.split("\n").flatMap(dependencies);
}

/** Unpacks packages into `bin/` and `cni/`, and writes down which shared libraries they need. */
export async function unpackPackages(packages: string[], directory: string, report: Report): Promise<void> {
    const needed = await extract(packages, join(directory, "tree"), report);
    // Links are left behind: /usr/bin/runc leads to /usr/sbin/runc.
    const binaries = "mkdir bin; find tree/usr/bin tree/usr/sbin -type f -exec mv -t bin {} +";
    await execute("sh", ["-ec", `${binaries}; mv tree/usr/lib/cni .; rm -r tree`], { cwd: directory });
    const libraries = needed.filter(([name = ""]) => isLibrary(name));
    await writeFile(join(directory, "libraries.json"), JSON.stringify(libraries));
}

/** Of the libraries that the packages unpacked in `directory` need, those that the system does not have. */
export async function missingLibraries(directory: string): Promise<string[]> {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is dpkg-query that fills it.
    const format = "${db:Status-Status} ${Package}\n";
    const { stdout } = await execute("dpkg-query", ["-W", "-f", format], { maxBuffer: 1e8 });
    const packages = new Set(stdout.split("\n"));
    const needed: string[][] = JSON.parse(readFileSync(join(directory, "libraries.json"), "utf8"));
    const missing = needed.filter((names) => !names.some((name) => packages.has(`installed ${name}`)));
    return [...new Set(missing.flatMap(([name]) => name ?? []))];
}
