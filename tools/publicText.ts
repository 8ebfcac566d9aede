// What may be shown to everybody who can read a pull request: no secrets, and nothing that its Markdown could act on.

/** What the engine prints for a secret, and this module for what looks like one. */
export const secret = "[secret]";

/** How the engine marks a secret in an object ("Pulumi's RPC protocol": the signature key, and the one for secrets). */
const [signature, secretSignature] = ["4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"];

/** Names of properties and variables whose text is not shown, without what is no letter. */
const secretName =
    /(password|passwd|pwd|secret|token|credential|connectionstring|kubeconfig|(private|account|access|api|shared|signing|storage|primary|secondary)key)s?$/i;

const secretTexts = [
    /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g,
    // The same in base64, as in a kubeconfig.
    /\bLS0tLS1CRUdJTi[\w+/=]*/g,
    // A JSON web token.
    /\beyJ[\w-]+\.[\w-]+(\.[\w-]*)?/g,
    // What services begin their tokens with, and Microsoft Entra has in its client secrets.
    /\b(gh[opsur]_|github_pat_|glpat-|npm_|pul-|xox[a-z]-|sk-)[\w-]{16,}/g,
    /[\w.~-]{3}\dQ~[\w.~-]{31,}/g,
    // In addresses, headers, connection strings, query strings and JSON.
    /(?<=:\/\/[^/\s:@]*:)[^/\s@]+(?=@)/g,
    /(?<=\bBearer )[\w.~+/-]{8,}=*/gi,
    /(?<=(?:password|secret|token|accesskey|accountkey|\bsig)(?:=|\\?"\s*:\s*)\\?"?)[^\s"\\&;,]+/gi,
    // Random bytes in base64, and random text of letters in both cases and digits.
    /(?<![\w+/])[\w+/]{40,}={1,2}/g,
    /(?<![\w+])(?=[\w+]*[a-z])(?=[\w+]*[A-Z])(?=[\w+]*\d)[\w+]{32,}/g,
];

const redacted = (text: string) => secretTexts.reduce((rest, pattern) => rest.replace(pattern, secret), text);

/**
 * A value of a resource with every secret in it replaced by {@link secret}: what the engine marked, text under a name such
 * as `password`, and text that looks like a token or a key.
 *
 * @param name of the property that holds the value.
 */
export function masked(value: unknown, name = ""): unknown {
    if (Array.isArray(value)) return value.map((each) => masked(each, name));
    if (typeof value === "string") {
        const isSecret = secretName.test(name.replace(/[^a-z]/gi, "")) || redacted(value) !== value;
        return isSecret && value !== "" ? secret : value;
    }
    if (typeof value !== "object" || value === null) return value;
    const properties = value as Record<string, unknown>;
    if (properties[signature] === secretSignature) return secret;
    // An environment variable is an object with a name and a value.
    const nameFor = (key: string) => (key === "value" ? String(properties.name ?? key) : key);
    return Object.fromEntries(
        Object.entries(properties).map(([key, each]) => [key, masked(each, nameFor(key))]),
    );
}

/**
 * Text as a code span of one line, in which no renderer finds markup, a table's border or a mention: backticks, pipes, `<`
 * and what is invisible are written as `\u{...}`, line ends as `\n`.
 *
 * @param limit in characters; of longer text the middle is left out. Digests are cut to their beginning anyway.
 */
export function code(text: string, limit = 80): string {
    const short = redacted(text).replace(/\b[\da-f]{64}\b/g, (digest) => `${digest.slice(0, 12)}…`);
    const characters = [...short];
    const half = Math.floor(limit / 2);
    const cut =
        characters.length > limit
            ? [...characters.slice(0, half), "…", ...characters.slice(-half)]
            : characters;
    return `\`${cut.join("").replace(/[`|<\p{C}\p{Zl}\p{Zp}]/gu, escaped) || '""'}\``;
}

const escaped = (character: string) =>
    character === "\n" ? "\\n" : `\\u{${character.codePointAt(0)?.toString(16)}}`;

/** Two texts that differ as code spans that differ: where the cut would hide the difference, what is around it is shown. */
export function codes(before: string, after: string): [string, string] {
    const [a, b] = [code(before), code(after)];
    if (a !== b || before === after) return [a, b];
    let first = 0;
    while (before[first] === after[first]) first++;
    // Less than what is left of a digest, so that it is no digest any more.
    const from = (text: string) => code(`…${redacted(text).slice(Math.max(0, first - 8))}`);
    return [from(before), from(after)];
}

/** Lines of text as they are, in a fenced block that none of them can end; at most 10,000 characters of them. */
export function block(lines: string[]): string {
    const text = redacted(lines.join("\n")).replace(/(?![\n\t])[\p{C}\p{Zl}\p{Zp}]/gu, escaped);
    const fence = "`".repeat(Math.max(3, ...[...text.matchAll(/`+/g)].map(([run]) => run.length + 1)));
    return `${fence}\n${text.length > 10_000 ? `${text.slice(0, 10_000)}…` : text}\n${fence}`;
}
