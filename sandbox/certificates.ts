import "reflect-metadata";
import { createPrivateKey, createPublicKey, randomUUID, X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { dirname, join } from "node:path";
import * as x509 from "@peculiar/x509";

/** A certificate and its private key, both as PEM. */
export interface Certificate {
    certificate: string;
    key: string;
}

/** What a certificate is for; key and extensions follow from it (RFC 5280, section 4.2.1). */
export interface CertificateRequest {
    /** Kubernetes reads a client's user from it. */
    commonName: string;
    /** A client's group, where it has one. */
    organization?: string;
    /** `authority` signs certificates, `server` serves TLS, `client` signs in, `tokens` signs RS256 tokens (its key is RSA). */
    use: "authority" | "server" | "client" | "tokens";
    /** Host names and addresses that a server is reached by; default: none. */
    names?: readonly string[];
}

const elliptic = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const rsa = {
    name: "RSASSA-PKCS1-v1_5",
    hash: "SHA-256",
    modulusLength: 2048,
    publicExponent: new Uint8Array([1, 0, 1]),
};
const day = 24 * 60 * 60 * 1000;

/**
 * Gives the certificate kept as `<directory>/<name>.crt` and `.key` (mode 0600). It is made on first use, and
 * anew when under 30 days are left, a name is missing or the issuer is another. Default issuer: itself.
 */
export async function certificateIn(
    directory: string,
    name: string,
    request: CertificateRequest,
    issuer?: Certificate,
): Promise<Certificate> {
    const files = { certificate: join(directory, `${name}.crt`), key: join(directory, `${name}.key`) };
    if (existsSync(files.certificate) && existsSync(files.key)) {
        const kept = {
            certificate: readFileSync(files.certificate, "utf8"),
            key: readFileSync(files.key, "utf8"),
        };
        if (isCurrent(kept, request, issuer)) return kept;
    }
    const made = await issue(request, issuer);
    writePrivate(files.key, made.key);
    writePrivate(files.certificate, made.certificate);
    return made;
}

/** Writes a file for its owner only (mode 0600), whole or not at all; makes its directory (0700). */
export function writePrivate(file: string, content: string): void {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    const partial = `${file}.${randomUUID()}`;
    writeFileSync(partial, content, { mode: 0o600, flag: "wx" });
    renameSync(partial, file);
}

function isCurrent(kept: Certificate, { names = [] }: CertificateRequest, issuer = kept): boolean {
    const found = new X509Certificate(kept.certificate);
    const covers = (name: string) => (isIP(name) ? found.checkIP(name) : found.checkHost(name)) !== undefined;
    const lasts = Date.parse(found.validTo) - Date.now() > 30 * day;
    const isPair = found.checkPrivateKey(createPrivateKey(kept.key));
    return lasts && isPair && found.verify(createPublicKey(issuer.certificate)) && names.every(covers);
}

/** Valid for two years, an authority for ten. */
async function issue(request: CertificateRequest, issuer?: Certificate): Promise<Certificate> {
    const { commonName, organization, use } = request;
    const keys = await crypto.subtle.generateKey(use === "tokens" ? rsa : elliptic, true, ["sign", "verify"]);
    const subject = [...(organization ? [{ O: [organization] }] : []), { CN: [commonName] }];
    const certificate = await x509.X509CertificateGenerator.create({
        subject,
        issuer: issuer ? new x509.X509Certificate(issuer.certificate).subjectName : subject,
        notBefore: new Date(Date.now() - day),
        notAfter: new Date(Date.now() + (use === "authority" ? 3650 : 730) * day),
        publicKey: keys.publicKey,
        signingKey: issuer ? await signingKey(issuer.key) : keys.privateKey,
        signingAlgorithm: elliptic,
        extensions: extensionsOf(request),
    });
    const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
    return {
        certificate: `${certificate.toString("pem")}\n`,
        key: `${x509.PemConverter.encode(key, "PRIVATE KEY")}\n`,
    };
}

const signingKey = (pem: string) =>
    crypto.subtle.importKey("pkcs8", x509.PemConverter.decodeFirst(pem), elliptic, false, ["sign"]);

function extensionsOf({ use, names = [] }: CertificateRequest): x509.Extension[] {
    if (use === "authority") return [new x509.BasicConstraintsExtension(true, undefined, true)];
    if (use === "tokens") return [new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature)];
    const { serverAuth, clientAuth } = x509.ExtendedKeyUsage;
    const alternatives = names.map((value) => ({ type: isIP(value) ? "ip" : "dns", value }) as const);
    return [
        new x509.ExtendedKeyUsageExtension([use === "server" ? serverAuth : clientAuth]),
        ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(alternatives)] : []),
    ];
}
