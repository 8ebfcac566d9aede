// Installs the npm packages, once and again when package-lock.json has changed. Plain Node: nothing is installed yet.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const checkout = dirname(dirname(fileURLToPath(import.meta.url)));
const lock = readFileSync(join(checkout, "package-lock.json"), "utf8");
const mark = join(checkout, "node_modules", ".installed-for");

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 9)) {
    console.error(`Node.js ${process.versions.node} is too old: install Node.js 20 or newer.`);
    process.exit(1);
}
if (!existsSync(mark) || readFileSync(mark, "utf8") !== lock) {
    const since = Date.now();
    console.error("Installing the npm packages (about half a minute, only the first time) ...");
    // Not `npm ci`: it wants packages of every platform to be in the lock file, which a registry may not have.
    const options = ["--no-save", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"];
    const { status } = spawnSync("npm", ["install", ...options], {
        cwd: checkout,
        stdio: ["ignore", "ignore", "inherit"],
    });
    if (status !== 0) {
        console.error("`npm install` failed, see above. Check the way to your npm registry, then try again.");
        process.exit(1);
    }
    writeFileSync(mark, lock);
    console.error(`Installed the npm packages in ${Math.round((Date.now() - since) / 1000)} s.`);
}
