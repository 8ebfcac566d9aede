import {
    existsSync,
    lstatSync,
    mkdirSync,
    readdirSync,
    readFileSync,
    readlinkSync,
    rmSync,
    symlinkSync,
    writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { load } from "js-yaml";

// `pulumi` writes into the stacks' files (`encryptionsalt`, `config set`); what it writes in the sandbox must not be in the checkout.

/**
 * Lays out a project directory that mirrors a checkout by links, with copies of the stacks' files. A copy is made anew once the
 * file in the checkout has another content; until then it keeps what `pulumi config set` put there. What somebody put in place
 * of a link stays.
 *
 * @returns the stacks' files that were made anew though they held settings of their own; each is kept beside itself as
 * `<file>.before`.
 */
export function mirrorCheckout(checkout: string, project: string): string[] {
    const replaced: string[] = [];
    for (const name of readdirSync(checkout)) {
        if (name.startsWith(".sandbox") || name === "node_modules" || name.startsWith(".git")) continue;
        const [source, target] = [join(checkout, name), join(project, name)];
        if (/^Pulumi\..+\.yaml$/.test(name)) {
            if (copyWhenChanged(source, target)) replaced.push(name);
        } else if (isMissingOrLink(target)) symlinkOver(source, target);
    }
    return replaced;
}

/** Makes a link, or makes it anew where it leads elsewhere: one that is right may be in use. */
export function symlinkOver(source: string, target: string): void {
    const there = lstatSync(target, { throwIfNoEntry: false });
    if (there?.isSymbolicLink() && readlinkSync(target) === source) return;
    if (there) rmSync(target, { recursive: true });
    mkdirSync(dirname(target), { recursive: true });
    symlinkSync(source, target);
}

const isMissingOrLink = (file: string) =>
    lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() ?? true;

function copyWhenChanged(source: string, target: string): boolean {
    const content = readFileSync(source, "utf8");
    const origin = join(dirname(target), `.${basename(source)}.origin`);
    const before = contentOf(target);
    const copied = contentOf(origin);
    if (before !== undefined && copied === content) return false;
    const salt = /^encryptionsalt: .*$/m.exec(before ?? "")?.[0];
    const hasOwn = before !== undefined && settingsIn(before) !== settingsIn(copied ?? "");
    if (hasOwn) writeFileSync(`${target}.before`, before);
    writeFileSync(target, salt ? `${salt}\n${content}` : content);
    writeFileSync(origin, content);
    return hasOwn;
}

const contentOf = (file: string) => (existsSync(file) ? readFileSync(file, "utf8") : undefined);

/** A stack's settings, such that they can be compared: `pulumi` turns `true` into `"true"` when it writes the file. */
function settingsIn(stackFile: string): string {
    const { config = {} } = (load(stackFile) as { config?: object } | undefined) ?? {};
    return JSON.stringify(config, (_, value) => (typeof value === "object" ? value : String(value)));
}
