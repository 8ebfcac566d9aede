import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { advice } = require("../requirements.cjs") as typeof import("../requirements.cjs");

let directory = "";
beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "aks-acr-doctor-"));
    symlinkSync(process.execPath, join(directory, "node"));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** A program on the PATH that prints this. */
function installed(name: string, text: string) {
    writeFileSync(join(directory, name), `#!/bin/sh\nprintf '%s\\n' '${text}'\n`, { mode: 0o755 });
}

/** What the doctor prints on a machine that has nothing but what the test installed. */
function examine(
    environment: Record<string, string> = {},
): Promise<{ code: number | null; lines: string[] }> {
    const child = spawn(process.execPath, ["doctor.cjs"], {
        env: { PATH: directory, HOME: directory, DOCKER_HOST: "unix:///nowhere/docker.sock", ...environment },
    });
    let output = "";
    child.stdout.on("data", (text) => {
        output += text;
    });
    return new Promise((resolve) =>
        child.on("close", (code) => resolve({ code, lines: output.split("\n") })),
    );
}

/** A docker daemon that answers, for as long as the work takes. */
async function withDocker<T>(work: (host: string) => Promise<T>): Promise<T> {
    const socket = join(directory, "docker.sock");
    const server = createServer((_, response) => response.end("OK"));
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    return await work(`unix://${socket}`).finally(() => server.close());
}

describe("the doctor", () => {
    it("names what is missing, each with what to do, and fails", async () => {
        const { code, lines } = await examine();
        expect(lines).toEqual([
            `ok  node: present (${process.version})`,
            "!!  pulumi: missing",
            `      ${advice.pulumi}`,
            "!!  docker daemon: missing",
            `      ${advice.docker}`,
            "!!  Azure login: missing",
            `      ${advice.azure}`,
            "--  kubectl: missing",
            `      ${advice.kubectl}`,
            "--  kubelogin: missing",
            `      ${advice.kubelogin}`,
            "",
            "3 of what `pulumi up` on Azure needs is not here.",
            "Without Azure: `npm start` runs the program in a sandbox, which brings what it needs.",
            "",
        ]);
        expect(code).toBe(1);
    });

    it("is content where all that is needed is there, kubectl or not", async () => {
        installed("pulumi", "v3.259.0");
        installed("az", "ann@example.com\tTeam\taaaaaaaa-1111-4222-8333-bbbbbbbbbbbb");
        const { code, lines } = await withDocker((host) => examine({ DOCKER_HOST: host }));
        expect(lines.slice(1, 4)).toEqual([
            "ok  pulumi: present (v3.259.0)",
            "ok  docker daemon: present",
            "ok  Azure login: present (ann@example.com, subscription Team (aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb))",
        ]);
        expect(lines).toContain("Ready for `pulumi up`.");
        expect(code).toBe(0);
    });

    it("tells a Pulumi that is too old", async () => {
        installed("pulumi", "v3.258.9");
        const { lines } = await examine();
        expect(lines.slice(1, 3)).toEqual(["!!  pulumi: too old (v3.258.9)", `      ${advice.pulumi}`]);
    });

    it("takes a login by environment, as in CI, without the Azure CLI", async () => {
        const { lines } = await examine({ ARM_CLIENT_ID: "id", ARM_SUBSCRIPTION_ID: "sub" });
        expect(lines).toContain("ok  Azure login: present (ARM_CLIENT_ID, subscription sub)");
    });

    it("finds kubectl and kubelogin, where they are", async () => {
        installed("kubectl", "Client Version: v1.36.2");
        installed("kubelogin", "kubelogin version\ngit hash: v0.2.10/abc");
        const { lines } = await examine();
        expect(lines).toContain("ok  kubectl: present (v1.36.2)");
        expect(lines).toContain("ok  kubelogin: present (v0.2.10)");
    });
});
