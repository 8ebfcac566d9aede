import { createHash } from "node:crypto";
import {
    type Dirent,
    existsSync,
    lstatSync,
    readdirSync,
    readFileSync,
    readlinkSync,
    type Stats,
} from "node:fs";
import { join, relative, resolve } from "node:path";
import dockerignore from "@balena/dockerignore";

/** What a build sees. */
export interface BuildContext {
    /** Absolute path of its directory. */
    root: string;
    /** Path of the Dockerfile in it. */
    dockerfile: string;
    /** Paths in it of all files and symbolic links that are not ignored, in the order that they are walked. */
    files: string[];
}

/**
 * Finds what a build sees; a `<Dockerfile>.dockerignore` counts before `.dockerignore`.
 *
 * @throws Error where the Dockerfile is not in the context.
 */
export function contextOf(directory: string, build: { context: string; dockerfile?: string }): BuildContext {
    const root = resolve(directory, build.context);
    const path = build.dockerfile ? resolve(directory, build.dockerfile) : join(root, "Dockerfile");
    const dockerfile = relative(root, path);
    if (dockerfile.startsWith(".."))
        throw new Error(
            `The Dockerfile ${build.dockerfile} is outside of ${build.context}; move it in there.`,
        );
    const rules = [`${path}.dockerignore`, join(root, ".dockerignore")].find(existsSync);
    const ignored = dockerignore({ ignorecase: false }).add(rules ? readFileSync(rules, "utf8") : "");
    const isSeen = (entry: Dirent) => entry.isFile() || entry.isSymbolicLink();
    const walk = (under: string): string[] =>
        readdirSync(join(root, under), { withFileTypes: true })
            .sort((one, other) => (one.name < other.name ? -1 : 1))
            .flatMap((entry) => {
                const path = join(under, entry.name);
                return entry.isDirectory() ? walk(path) : isSeen(entry) ? path : [];
            });
    return { root, dockerfile, files: ignored.filter(walk("")) };
}

/** Changes with what a build sees and with nothing else: names, modes and contents, added up as the vendor's plugin does. */
export function digestOf({ root, dockerfile, files }: BuildContext): string {
    const sum = createHash("sha256");
    const add = (path: string, name: string, mode: string) => {
        const file = join(root, path);
        const content = lstatSync(file).isSymbolicLink() ? readlinkSync(file) : readFileSync(file);
        sum.update(name).update(mode).update(createHash("sha256").update(content).digest()).update("\0");
    };
    // Its name and mode are nothing to the build; as one of the files it is added with them.
    add(dockerfile, "Dockerfile", "-".repeat(10));
    for (const path of files) add(path, path, modeOf(lstatSync(join(root, path))));
    return sum.digest("hex");
}

/** A file's mode as `ls -l` writes it, with `L` for a symbolic link. */
function modeOf(stat: Stats): string {
    const bits = [..."rwxrwxrwx"].map((letter, index) => (stat.mode & (0o400 >> index) ? letter : "-"));
    return `${stat.isSymbolicLink() ? "L" : "-"}${bits.join("")}`;
}

/** What a Dockerfile may start from: what its FROMs name, its own stages too, and the values of the build's arguments. */
export function basesOf({ root, dockerfile }: BuildContext, args: Record<string, string> = {}): string[] {
    const lines = readFileSync(join(root, dockerfile), "utf8");
    const named = [...lines.matchAll(/^\s*FROM\s+(?:--\S+\s+)*(\S+)/gim)].map(([, name = ""]) => name);
    return [...named, ...Object.values(args)];
}
