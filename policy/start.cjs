// `pulumi` starts every policy pack with ts-node, which would check all types of the SDK at each preview and update. Types are
// stripped here instead; `npm test` checks them. A tsconfig.json beside this file would wake ts-node again.
delete require.extensions[".ts"];
require("sucrase/register/ts");
require("./index.ts");
