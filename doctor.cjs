// @ts-check
// `npm run doctor`: what the program needs on this machine, and what of it is here. Runs before anything is installed.
const { spawnSync } = require("node:child_process");
const { advice, dockerAnswers } = require("./requirements.cjs");

/**
 * What was found of a requirement.
 *
 * @typedef {object} Finding
 * @property {string} name
 * @property {"present" | "too old" | "missing"} state
 * @property {string} [detail] version or account.
 * @property {string} [advice] what to do.
 * @property {boolean} [optional] whether the program does without.
 */

/**
 * Output of a program, or undefined where it is not there or fails.
 *
 * @param {string} command
 * @param {string[]} args
 */
function output(command, args) {
    // On Windows the Azure CLI is a batch file, which only a shell starts; the arguments are all from here.
    const shell = process.platform === "win32";
    const { status, stdout } = spawnSync(command, args, { encoding: "utf8", timeout: 30_000, shell });
    return status === 0 ? stdout.trim() : undefined;
}

/**
 * @param {string} version e.g. `v3.259.0`.
 * @param {[number, number]} least major and minor.
 */
function isAtLeast(version, [major, minor]) {
    const [foundMajor = 0, foundMinor = 0] = (/(\d+)\.(\d+)/.exec(version) ?? []).slice(1).map(Number);
    return foundMajor > major || (foundMajor === major && foundMinor >= minor);
}

/**
 * @param {"node" | "pulumi" | "kubectl" | "kubelogin"} name
 * @param {string | undefined} version
 * @param {{ least?: [number, number], optional?: boolean }} [rule]
 * @returns {Finding}
 */
function tool(name, version, { least = [0, 0], optional = false } = {}) {
    const common = { name, optional, ...(version !== undefined && { detail: version.split("\n")[0] }) };
    if (version === undefined) return { ...common, state: "missing", advice: advice[name] };
    if (!isAtLeast(version, least)) return { ...common, state: "too old", advice: advice[name] };
    return { ...common, state: "present" };
}

/** @returns {Promise<Finding>} */
async function docker() {
    const answers = await dockerAnswers(process.env.DOCKER_HOST);
    return answers
        ? { name: "docker daemon", state: "present" }
        : { name: "docker daemon", state: "missing", advice: advice.docker };
}

/** @returns {Finding} */
function azureLogin() {
    const name = "Azure login";
    const { ARM_CLIENT_ID: client, ARM_SUBSCRIPTION_ID: subscription } = process.env;
    if (client && subscription)
        return { name, state: "present", detail: `ARM_CLIENT_ID, subscription ${subscription}` };
    const query = ["--query", "[user.name, name, id]", "--output", "tsv"];
    const account = output("az", ["account", "show", ...query]);
    if (!account) return { name, state: "missing", advice: advice.azure };
    const [user, subscriptionName, id] = account.split(/\s*[\t\n]\s*/);
    return { name, state: "present", detail: `${user}, subscription ${subscriptionName} (${id})` };
}

async function examine() {
    const kubectl = output("kubectl", ["version", "--client"]);
    return [
        tool("node", process.version, { least: [20, 9] }),
        tool("pulumi", output("pulumi", ["version"]), { least: [3, 259] }),
        await docker(),
        azureLogin(),
        tool("kubectl", kubectl?.replace(/^Client Version: /, ""), { optional: true }),
        tool("kubelogin", /v\d[^\s/]*/.exec(output("kubelogin", ["--version"]) ?? "")?.[0], {
            optional: true,
        }),
    ];
}

examine().then((findings) => {
    for (const { name, state, detail, advice: todo, optional } of findings) {
        const mark = state === "present" ? "ok" : optional ? "--" : "!!";
        console.log(`${mark}  ${name}: ${state}${detail ? ` (${detail})` : ""}`);
        if (todo) console.log(`      ${todo}`);
    }
    const wrong = findings.filter(({ state, optional }) => state !== "present" && !optional).length;
    console.log(
        wrong ? `\n${wrong} of what \`pulumi up\` on Azure needs is not here.` : "\nReady for `pulumi up`.",
    );
    console.log("Without Azure: `npm start` runs the program in a sandbox, which brings what it needs.");
    process.exitCode = wrong ? 1 : 0;
});
