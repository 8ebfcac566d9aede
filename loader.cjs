// Makes the program start fast; Pulumi.yaml names this file. `pulumi` runs it before index.ts.
const Module = require("node:module");

// Strips the types without checking them; `npm test` is what checks them.
require("tsx/cjs");

// The SDK loads the TypeScript compiler and npm's dependency resolver at every start. They serve dynamic providers
// and serialised functions, of which this program has none, and take longer than all else. Loaded on first use instead.
const seldomUsed = new Set(["typescript", "@npmcli/arborist"]);
const load = Module._load;
Module._load = function (request, ...rest) {
    if (!seldomUsed.has(request)) return load.call(this, request, ...rest);
    const get = () => load.call(this, request, ...rest);
    return new Proxy(class {}, {
        get: (_, name) => (name === "__esModule" ? true : get()[name]),
        construct: (_, args) => new (get())(...args),
        apply: (_, self, args) => Reflect.apply(get(), self, args),
    });
};
