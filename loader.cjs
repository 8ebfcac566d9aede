// Makes the program start fast; Pulumi.yaml names this file. `pulumi` runs it before index.ts.
const Module = require("node:module");

// Strips the types without checking them; `npm test` is what checks them. It looks at .ts files only, so that the
// hundreds of modules of the SDK load as they are, and starts no process.
require("sucrase/register/ts");

// What the SDK loads at every start for dynamic providers, serialised functions and the Automation API. This program has
// none of those, and they take longer than all else: the TypeScript compiler, npm's dependency resolver and more. They
// are loaded on first use instead.
const seldomUsed = new Set(["typescript", "@npmcli/arborist", "normalize-package-data", "./automation"]);
const load = Module._load;
Module._load = function (request, parent, ...rest) {
    const isSeldomUsed =
        seldomUsed.has(request) && /[/\\]@pulumi[/\\]pulumi[/\\]/.test(parent?.filename ?? "");
    if (!isSeldomUsed) return load.call(this, request, parent, ...rest);
    const get = () => load.call(this, request, parent, ...rest);
    return new Proxy(class {}, {
        get: (_, name) => (name === "__esModule" ? true : get()[name]),
        construct: (_, args) => new (get())(...args),
        apply: (_, self, args) => Reflect.apply(get(), self, args),
    });
};
