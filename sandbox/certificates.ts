import * as crypto from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { dirname, join } from "node:path";

/** A certificate and its private key, both as PEM. */
export interface Certificate {
    certificate: string;
    key: string;
}

/** What a certificate is for; key and extensions follow from it (RFC 5280, section 4.2.1). */
export interface CertificateRequest {
    /** The whole subject, and nothing beside it. */
    commonName: string;
    /** `authority` signs certificates, `server` serves TLS, `tokens` signs RS256 tokens (its key is RSA). */
    use: "authority" | "server" | "tokens";
    /** Host names and IPv4 addresses that a server is reached by; default: none. */
    names?: readonly string[];
}

const day = 24 * 60 * 60 * 1000;

/**
 * Gives the certificate kept as `<directory>/<name>.crt` and `.key` (mode 0600). It is made on first use, and
 * anew when under 30 days are left, a name is missing or the issuer is another. Default issuer: itself.
 */
export function certificateIn(
    directory: string,
    name: string,
    request: CertificateRequest,
    issuer?: Certificate,
): Certificate {
    const [certificateFile, keyFile] = [join(directory, `${name}.crt`), join(directory, `${name}.key`)];
    if (existsSync(certificateFile) && existsSync(keyFile)) {
        const kept = {
            certificate: readFileSync(certificateFile, "utf8"),
            key: readFileSync(keyFile, "utf8"),
        };
        if (isCurrent(kept, request, issuer)) return kept;
    }
    const made = issue(request, issuer);
    writePrivate(keyFile, made.key);
    writePrivate(certificateFile, made.certificate);
    return made;
}

/** Writes a file for its owner only (mode 0600), whole or not at all; makes its directory (0700). */
export function writePrivate(file: string, content: string): void {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    const partial = `${file}.${crypto.randomBytes(4).toString("hex")}`;
    writeFileSync(partial, content, { mode: 0o600, flag: "wx" });
    renameSync(partial, file);
}

function isCurrent(kept: Certificate, { names = [] }: CertificateRequest, issuer = kept): boolean {
    const found = new crypto.X509Certificate(kept.certificate);
    const covers = (name: string) => (isIP(name) ? found.checkIP(name) : found.checkHost(name)) !== undefined;
    const lasts = Date.parse(found.validTo) - Date.now() > 30 * day;
    const isPair = found.checkPrivateKey(crypto.createPrivateKey(kept.key));
    return lasts && isPair && found.verify(crypto.createPublicKey(issuer.certificate)) && names.every(covers);
}

/** Valid for two years, an authority for ten. Signed with ECDSA P-256: issuers are authorities. */
function issue(request: CertificateRequest, issuer?: Certificate): Certificate {
    const { commonName, use } = request;
    const { privateKey, publicKey } =
        use === "tokens"
            ? crypto.generateKeyPairSync("rsa", { modulusLength: 2048 })
            : crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
    const key = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    const issuerSubject = issuer && new crypto.X509Certificate(issuer.certificate).subject;
    const algorithm = sequence(der(0x06, "2a8648ce3d040302")); // ecdsa-with-SHA256
    const times = [-1, use === "authority" ? 3650 : 730].map((days) => der(0x17, utcTime(days)));
    const content = sequence(
        der(0xa0, der(0x02, "02")), // version 3
        der(0x02, "01", crypto.randomBytes(15)),
        algorithm,
        distinguishedName(issuerSubject?.slice("CN=".length) ?? commonName),
        sequence(...times),
        distinguishedName(commonName),
        publicKey.export({ type: "spki", format: "der" }),
        der(0xa3, sequence(...extensions(request))),
    );
    const signature = crypto.sign("sha256", content, issuer?.key ?? key);
    const certificate = new crypto.X509Certificate(sequence(content, algorithm, der(0x03, "00", signature)));
    return { key, certificate: certificate.toString() };
}

function extensions({ use, names = [] }: CertificateRequest): Buffer[] {
    const extension = (id: string, value: Buffer) => sequence(der(0x06, "551d", id), der(0x04, value));
    if (use === "tokens") return [extension("0f", der(0x03, "0780"))]; // digital signature
    const isAuthority = extension("13", sequence(der(0x01, "ff")));
    if (use === "authority") return [isAuthority, extension("0f", der(0x03, "0106"))]; // signs certificates
    const serverAuthentication = extension("25", sequence(der(0x06, "2b06010505070301")));
    const alternatives = names.map((name) =>
        isIP(name) ? der(0x87, Buffer.from(name.split(".").map(Number))) : der(0x82, Buffer.from(name)),
    );
    return [serverAuthentication, extension("11", sequence(...alternatives))];
}

const distinguishedName = (commonName: string) =>
    sequence(der(0x31, sequence(der(0x06, "550403"), der(0x0c, Buffer.from(commonName)))));
const utcTime = (days: number) =>
    Buffer.from(`${new Date(Date.now() + days * day).toISOString().replace(/\D/g, "").slice(2, 14)}Z`);
const sequence = (...parts: Buffer[]) => der(0x30, ...parts);

/** One value in DER (ITU-T X.690), of which a certificate is made: Node only reads them. Text is hex. */
function der(tag: number, ...parts: (Buffer | string)[]): Buffer {
    const body = Buffer.concat(
        parts.map((part) => (Buffer.isBuffer(part) ? part : Buffer.from(part, "hex"))),
    );
    const long = body.length < 256 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 255];
    return Buffer.concat([Buffer.from([tag, ...(body.length < 128 ? [body.length] : long)]), body]);
}
