import { spawn } from "node:child_process";
import { appendFileSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { stripVTControlCharacters } from "node:util";

/** Says what a running step is doing just now, e.g. the last line of a tool's output. */
export type Report = (detail: string) => void;

/** Where progress is shown; `process.stderr` is one. */
export type Screen = Partial<Pick<NodeJS.WriteStream, "isTTY" | "columns">> & {
    write(text: string): unknown;
};

/** A length of time as people say it: `45 s`, `4 min 05 s`. */
export function duration(milliseconds: number): string {
    const seconds = Math.round(milliseconds / 1000);
    if (seconds < 60) return `${seconds} s`;
    return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}

/**
 * Shows steps that run side by side, each with its number, its time so far and what it does: on a terminal one
 * updating line per step, elsewhere (CI) a line at the start, every 20 seconds and at the end.
 */
export class Progress {
    private readonly running = new Set<{ label: string; since: number; detail: string }>();
    private readonly live: boolean;
    private timer: NodeJS.Timeout | undefined;
    private started = 0;
    private drawn = 0;

    /** `total` is the number of steps there will be. */
    constructor(
        private readonly total: number,
        private readonly screen: Screen = process.stderr,
    ) {
        this.live = screen.isTTY === true && process.env.TERM !== "dumb" && !process.env.CI;
    }

    /** Runs one step and shows it while it runs; resolves and rejects as `work` does. */
    async step<T>(title: string, work: (report: Report) => Promise<T>): Promise<T> {
        const label = `[${++this.started}/${this.total}] ${title}`;
        const step = { label, since: Date.now(), detail: "" };
        this.running.add(step);
        this.timer ??= setInterval(() => this.show(), this.live ? 200 : 20_000);
        this.show(this.live ? "" : `${label}\n`);
        let how = "failed after";
        try {
            const result = await work((detail) => {
                step.detail = stripVTControlCharacters(detail).trim();
            });
            how = "done in";
            return result;
        } finally {
            this.running.delete(step);
            if (this.running.size === 0) {
                clearInterval(this.timer);
                this.timer = undefined;
            }
            this.show(`${label}: ${how} ${duration(Date.now() - step.since)}\n`);
        }
    }

    /** Writes a line that stays, on a terminal above those of the running steps; without one, those as they are. */
    private show(staying = ""): void {
        if (!this.live && staying) return void this.screen.write(staying);
        const lines = [...this.running].map(({ label, since, detail }) => {
            const line = [`${label}: ${duration(Date.now() - since)}`, detail].filter(Boolean).join(", ");
            return `${this.live ? line.slice(0, (this.screen.columns ?? 80) - 1) : line}\n`;
        });
        const upToFirst = this.drawn > 0 ? `\x1b[${this.drawn}A\x1b[J` : "";
        this.screen.write(`${upToFirst}${staying}${lines.join("")}`);
        if (this.live) this.drawn = lines.length;
    }
}

/** The end of a program's output, for a message; at most 15 lines. */
export const lastLines = (output: string): string =>
    output.trimEnd().split("\n").slice(-15).join("\n").replace(/^/gm, "  | ").concat("\n");

/** How a command is run. */
export interface CommandOptions {
    cwd: string;
    /** Added to this process's environment. */
    environment: Record<string, string>;
    /** File that all of its output is added to. */
    log: string;
    /** Gets each line of its output. */
    report: Report;
    /** What helps when it fails; a sentence. */
    advice: string;
}

/** Runs a command to its end; throws its last lines, where its whole output is, and the advice. */
export async function run(command: string, args: string[], options: CommandOptions): Promise<void> {
    mkdirSync(dirname(options.log), { recursive: true, mode: 0o700 });
    const log = (line: string) => appendFileSync(options.log, `${line}\n`, { mode: 0o600 });
    log(`$ ${command} ${args.join(" ")}`);
    const last: string[] = [];
    const end = await new Promise<string>((resolve) => {
        const env = { ...process.env, ...options.environment };
        const child = spawn(command, args, { cwd: options.cwd, env, stdio: ["ignore", "pipe", "pipe"] });
        for (const output of [child.stdout, child.stderr])
            createInterface(output).on("line", (line) => {
                log(line);
                last.push(line);
                options.report(line);
            });
        child.on("error", (error) => resolve(error.message));
        child.on("close", (code, signal) => resolve(signal ?? (code === 0 ? "" : `exit code ${code}`)));
    });
    if (!end) return;
    throw new Error(
        `${command} ended with ${end}. Its last lines:\n${lastLines(last.join("\n"))}` +
            `Its whole output is in ${options.log}. ${options.advice}`,
    );
}
