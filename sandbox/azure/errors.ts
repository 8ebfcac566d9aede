/** A request that Azure refuses; the message is the service's own text. */
export class AzureError extends Error {
    /**
     * @param status HTTP status.
     * @param code the service's error code, e.g. `AuthorizationFailed`.
     * @param body the whole answer as JSON text.
     */
    constructor(
        readonly status: number,
        readonly code: string,
        message: string,
        readonly body: string = JSON.stringify({ error: { code, message } }),
    ) {
        super(message);
    }
}

/** An error of AKS, which unlike other services puts it at the top level of its answer. */
export function aksError(code: string, message: string, target?: string): AzureError {
    const body = { code, details: null, message, subcode: "", ...(target !== undefined && { target }) };
    return new AzureError(400, code, message, JSON.stringify(body));
}
