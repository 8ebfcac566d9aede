import "reflect-metadata";
import { webcrypto, X509Certificate } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import { type Certificate, writePrivate } from "../certificates";

/** Who a certificate is for. Kubernetes reads a client's user from the common name, its group from the organization. */
export interface CertificateRequest {
    commonName: string;
    organization?: string;
    use: "authority" | "server" | "client";
    /** Host names and addresses that a server is reached by. */
    names?: readonly string[];
}

const crypto = webcrypto as unknown as Crypto;
const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const day = 24 * 60 * 60 * 1000;

/**
 * Gives the certificate kept as `<directory>/<name>.crt` and `.key` (mode 0600). It is made on first use, and anew when
 * under 30 days are left or the issuer is another. Default issuer: itself.
 */
export async function certificateIn(
    directory: string,
    name: string,
    request: CertificateRequest,
    issuer?: Certificate,
): Promise<Certificate> {
    const [certificateFile, keyFile] = [join(directory, `${name}.crt`), join(directory, `${name}.key`)];
    if (existsSync(certificateFile) && existsSync(keyFile)) {
        const certificate = readFileSync(certificateFile, "utf8");
        const found = new X509Certificate(certificate);
        const signer = new X509Certificate(issuer?.certificate ?? certificate);
        const lasts = Date.parse(found.validTo) - Date.now() > 30 * day;
        if (lasts && found.verify(signer.publicKey)) {
            return { certificate, key: readFileSync(keyFile, "utf8") };
        }
    }
    const made = await issue(request, issuer);
    writePrivate(keyFile, made.key);
    writePrivate(certificateFile, made.certificate);
    return made;
}

async function issue(request: CertificateRequest, issuer?: Certificate): Promise<Certificate> {
    const { commonName, organization, use, names = [] } = request;
    const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
    const issuerKey = issuer && x509.PemConverter.decodeFirst(issuer.key);
    const subject = [...(organization ? [{ O: [organization] }] : []), { CN: [commonName] }];
    const alternatives = names.map((value) => ({ type: isIP(value) ? "ip" : "dns", value }) as const);
    const authentication = use === "server" ? "serverAuth" : "clientAuth";
    const certificate = await x509.X509CertificateGenerator.create(
        {
            subject,
            issuer: issuer ? new x509.X509Certificate(issuer.certificate).subjectName : subject,
            notBefore: new Date(Date.now() - day),
            notAfter: new Date(Date.now() + (issuer ? 730 : 3650) * day),
            publicKey: keys.publicKey,
            signingKey: issuerKey
                ? await crypto.subtle.importKey("pkcs8", issuerKey, algorithm, false, ["sign"])
                : keys.privateKey,
            signingAlgorithm: algorithm,
            extensions: [
                ...(use === "authority"
                    ? [new x509.BasicConstraintsExtension(true, undefined, true)]
                    : [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage[authentication]])]),
                ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(alternatives)] : []),
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
