import { inspect } from "node:util";
import * as pulumi from "@pulumi/pulumi";

/**
 * An error for the person who runs the program: it ends with this message and nothing else. The SDK (3.270) inspects whatever ends
 * a program, and that hangs on to a promise, and so to everything that the program made: this took a minute and gigabytes.
 */
export class UserError extends pulumi.RunError {
    [inspect.custom](): string {
        return this.message;
    }
}
