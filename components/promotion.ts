import * as pulumi from "@pulumi/pulumi";

/** An image that another stack ran first. */
export interface Promotion {
    /** The stack that it was promoted from. */
    from: string;
    /** The image there, `<login server>/<repository>@sha256:...`. */
    image: string;
    /** The digest, which is the same here. */
    digest: string;
    /** When this stack took it, in ISO 8601. */
    at: string;
}

/**
 * Remembers in the state when this stack took a digest: once for each, however often it is updated.
 *
 * @param name logical name, to which a part of the digest is added.
 * @param promoted what was promoted; undefined where nothing is.
 */
export function promotionOf(
    name: string,
    promoted: Omit<Promotion, "at"> | undefined,
): pulumi.Output<Promotion> | undefined {
    if (!promoted) return undefined;
    const input = { ...promoted, at: new Date().toISOString() };
    const part = promoted.digest.replace(/^sha256:/, "").slice(0, 12);
    return new pulumi.Stash(`${name}-${part}`, { input }, { ignoreChanges: ["input"] })
        .output as pulumi.Output<Promotion>;
}
