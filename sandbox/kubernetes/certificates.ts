import "reflect-metadata";
import { randomBytes, webcrypto, X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";

const crypto = webcrypto as unknown as Crypto;
const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const day = 24 * 60 * 60 * 1000;

/** A certificate and its private key. */
export interface Certificate {
    certificate: string;
    key: string;
    /** Files with the same, in PEM; the key's can be read by its owner only. */
    certificateFile: string;
    keyFile: string;
}

/** Who a certificate stands for; user and groups in Kubernetes' words. */
export interface Subject {
    user: string;
    group?: string;
    /** Addresses and names of a server; without them it is a client's certificate. */
    names?: { type: "ip" | "dns"; value: string }[];
}

/**
 * A cluster's certificate authority in a directory of its own. What it has issued is kept there and used again until 30
 * days before its end; see "PKI certificates and requirements" in the Kubernetes documentation for who needs which.
 */
export class CertificateAuthority {
    constructor(private readonly directory: string) {
        mkdirSync(directory, { recursive: true, mode: 0o700 });
    }

    /** The authority's own certificate. */
    async own(): Promise<Certificate> {
        return this.keep("ca", { user: "kubernetes" });
    }

    /** The certificate that is kept under this name. */
    async issue(name: string, subject: Subject): Promise<Certificate> {
        return this.keep(name, subject, await this.own());
    }

    private async keep(name: string, subject: Subject, issuer?: Certificate): Promise<Certificate> {
        const certificateFile = join(this.directory, `${name}.crt`);
        const keyFile = join(this.directory, `${name}.key`);
        if (!isUsable(certificateFile, issuer)) {
            const { certificate, key } = await make(subject, issuer);
            writeFileSync(keyFile, key, { mode: 0o600 });
            writeFileSync(certificateFile, certificate, { mode: 0o600 });
        }
        const [certificate, key] = [readFileSync(certificateFile, "utf8"), readFileSync(keyFile, "utf8")];
        return { certificate, key, certificateFile, keyFile };
    }
}

function isUsable(file: string, issuer?: Certificate): boolean {
    if (!existsSync(file)) return false;
    const found = new X509Certificate(readFileSync(file));
    const isIssued = !issuer || found.checkIssued(new X509Certificate(issuer.certificate));
    return isIssued && Date.parse(found.validTo) - Date.now() > 30 * day;
}

async function make({ user, group, names = [] }: Subject, issuer?: Certificate) {
    const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
    const signer = issuer && x509.PemConverter.decodeFirst(issuer.key);
    const use = names.length > 0 ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth;
    const subject = [...(group ? [{ O: [group] }] : []), { CN: [user] }];
    const certificate = await x509.X509CertificateGenerator.create(
        {
            serialNumber: `01${randomBytes(15).toString("hex")}`,
            subject,
            issuer: issuer
                ? new x509.X509Certificate(issuer.certificate).subject
                : new x509.Name(subject).toString(),
            notBefore: new Date(Date.now() - day),
            notAfter: new Date(Date.now() + (issuer ? 730 : 3650) * day),
            publicKey: keys.publicKey,
            signingKey: signer
                ? await crypto.subtle.importKey("pkcs8", signer, algorithm, false, ["sign"])
                : keys.privateKey,
            signingAlgorithm: algorithm,
            extensions: issuer
                ? [
                      new x509.ExtendedKeyUsageExtension([use]),
                      ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
                  ]
                : [
                      new x509.BasicConstraintsExtension(true, undefined, true),
                      new x509.KeyUsagesExtension(
                          x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.digitalSignature,
                          true,
                      ),
                  ],
        },
        crypto,
    );
    const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
    return {
        certificate: `${certificate.toString("pem")}\n`,
        key: `${x509.PemConverter.encode(key, "PRIVATE KEY")}\n`,
    };
}
