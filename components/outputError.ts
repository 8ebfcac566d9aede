import { inspect } from "node:util";
import * as pulumi from "@pulumi/pulumi";

/**
 * An error that ends the program from inside an output, with its message only. The SDK (3.270) inspects whatever ends a program,
 * and that hangs on to a promise, and so to everything the program made: this took a minute and gigabytes.
 */
export class OutputError extends pulumi.RunError {
    [inspect.custom](): string {
        return this.message;
    }
}
