import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { extract, isLibrary } from "./debian";
import type { Report } from "./progress";

/** Label of an image that stands in for one of Docker Hub; its value is `true`. */
export const standInLabel = "org.aks-acr.sandbox";

const configuration = `user nginx;
worker_processes auto;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;
events {
    worker_connections 1024;
}
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log;
    sendfile on;
    include /etc/nginx/conf.d/*.conf;
}
`;

/** Files at the places where the official image has them. */
const files = {
    "etc/passwd": `root:x:0:0:root:/root:/bin/sh
nginx:x:101:101:nginx:/nonexistent:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
`,
    "etc/group": "root:x:0:\nnginx:x:101:\nnogroup:x:65534:\n",
    "etc/nginx/nginx.conf": configuration,
    "etc/nginx/conf.d/default.conf": "server {\n    listen 80;\n    root /usr/share/nginx/html;\n}\n",
    "usr/share/nginx/html/index.html": "<!DOCTYPE html>\n<title>nginx</title>\n<h1>nginx runs</h1>\n",
    "docker-entrypoint.sh": '#!/bin/sh\nexec "$@"\n',
};

const finish = `
mkdir -p dev proc sys run root var/cache/nginx var/lib var/log/nginx
mkdir -m 1777 tmp
chmod 755 . docker-entrypoint.sh
for applet in $(usr/bin/busybox --list); do test -e "usr/bin/$applet" || ln -s busybox "usr/bin/$applet"; done
ln -s /run var/run
ln -s /dev/stdout var/log/nginx/access.log
ln -s /dev/stderr var/log/nginx/error.log
chown -R 101:101 var/cache/nginx
# Debian keeps its temporary files here, the official image where the pods of both may write.
rm -rf var/lib/nginx && ln -s /var/cache/nginx var/lib/nginx
mv usr/share/nginx . && rm -r usr/share/* && mv nginx usr/share/
rm -rf usr/lib/*/gconv usr/lib/systemd etc/nginx/sites-* etc/nginx/modules-* etc/init.d etc/logrotate.d etc/ufw
find . -exec touch -hd @0 {} +
tar --sort=name --numeric-owner -cf ../layer.tar .
`;

/** Changes with how the image is made, so that one made otherwise is not taken for it. */
export const recipe = createHash("sha256")
    .update(JSON.stringify(files))
    .update(finish)
    .digest("hex")
    .slice(0, 8);

/**
 * Makes an image of the distribution's nginx in `directory`: `layer.tar` with nginx, the libraries that it links to and
 * busybox, and `config.json`. It is laid out and behaves as the official image; about 15 MB, without a package system.
 */
export async function makeNginxImage(directory: string, report: Report): Promise<void> {
    const root = join(directory, "root");
    const unpacked = new Set<string>();
    for (let next = ["busybox-static", "nginx"]; next.length > 0; ) {
        for (const name of next) unpacked.add(name);
        const needed = (await extract(next, root, report)).flatMap(([name]) => name ?? []);
        const wanted = needed.filter((name) => isLibrary(name) || name.startsWith("nginx"));
        next = [...new Set(wanted)].filter((name) => !unpacked.has(name));
    }
    for (const [path, text] of Object.entries(files)) {
        await mkdir(join(root, path, ".."), { recursive: true });
        await writeFile(join(root, path), text);
    }
    await promisify(execFile)("sh", ["-ec", finish], { cwd: root });
    await rm(root, { recursive: true });
    const digest = createHash("sha256").update(await readFile(join(directory, "layer.tar")));
    await writeFile(join(directory, "config.json"), JSON.stringify(imageConfiguration(digest.digest("hex"))));
}

/** What the official image says about itself, and the label. */
function imageConfiguration(layer: string) {
    const created = new Date(0).toISOString();
    return {
        architecture: process.arch === "x64" ? "amd64" : process.arch,
        os: "linux",
        created,
        config: {
            Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            Entrypoint: ["/docker-entrypoint.sh"],
            Cmd: ["nginx", "-g", "daemon off;"],
            ExposedPorts: { "80/tcp": {} },
            StopSignal: "SIGQUIT",
            Labels: { [standInLabel]: "true" },
        },
        rootfs: { type: "layers", diff_ids: [`sha256:${layer}`] },
        history: [{ created, created_by: "the distribution's nginx, instead of Docker Hub's" }],
    };
}
