import { inspect } from "node:util";
import * as pulumi from "@pulumi/pulumi";

/**
 * An error for the person who runs the program: it ends with this message and nothing else. The SDK (3.270) puts before it in
 * which property of what it came up, and inspects whatever ends a program; that hangs on to a promise, and so to everything that the
 * program made: this took a minute and gigabytes.
 */
export class UserError extends pulumi.RunError {
    constructor(message: string) {
        super(message);
        Object.defineProperty(this, "message", { get: () => message, set: () => undefined });
    }

    [inspect.custom](): string {
        return this.message;
    }
}
