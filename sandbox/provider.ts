import * as grpc from "@grpc/grpc-js";
import * as engineRpc from "@pulumi/pulumi/proto/engine_grpc_pb";
import * as engine from "@pulumi/pulumi/proto/engine_pb";
import * as plugin from "@pulumi/pulumi/proto/plugin_pb";
import * as rpc from "@pulumi/pulumi/proto/provider_grpc_pb";
import * as proto from "@pulumi/pulumi/proto/provider_pb";
import * as status from "@pulumi/pulumi/proto/status_pb";
import { Any } from "google-protobuf/google/protobuf/any_pb";
import { Empty } from "google-protobuf/google/protobuf/empty_pb";
import { Struct } from "google-protobuf/google/protobuf/struct_pb";

/** Resource properties as they cross the wire: plain JSON; secrets arrive unwrapped, the engine marks them again. */
// biome-ignore lint/suspicious/noExplicitAny: property bags are of no fixed shape.
export type Properties = Record<string, any>;

/** What the engine sends for a value that is not known before the update. */
export const unknown = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

/** Property that marks a secret that the engine has not unwrapped. */
const signature = "4dabf18193072939515e22adb298388d";

/** True where the value, or anything inside it, is not known yet. */
export function hasUnknown(value: unknown): boolean {
    if (value === unknown) return true;
    return typeof value === "object" && value !== null && Object.values(value).some(hasUnknown);
}

/** One resource in one call. */
export interface Resource {
    /** Type token, e.g. `docker:index/image:Image`. */
    type: string;
    /** Logical name in the program. */
    name: string;
    urn: string;
}

/** What changes between two sets of inputs: the property paths, those of them that force a replacement, and how. */
export interface Difference {
    /** Changed paths in the engine's syntax, e.g. `properties.dnsPrefix`, `tags["a.b"]`. */
    changed: string[];
    /** Subset of `changed` that needs a new resource. */
    replaces?: string[];
    /** Whether the old one must go before the new one is made. */
    deleteBeforeReplace?: boolean;
}

/** Thrown by create or update when the resource exists but did not become ready; the engine keeps it in the state. */
export class NotReady extends Error {
    constructor(
        message: string,
        readonly id: string,
        readonly outputs: Properties,
        readonly reasons: string[],
    ) {
        super(message);
    }
}

/** Tells the user something while an operation runs; `passing` messages are shown in the status column only. */
export type Report = (
    message: string,
    options?: { urn?: string; passing?: boolean; warning?: boolean },
) => void;

/** What the engine knows of a resource. */
export interface State {
    inputs: Properties;
    outputs: Properties;
}

type Awaitable<T> = T | Promise<T>;

/**
 * One configured instance of a resource provider, as the engine sees it. `timeout` is the program's own for the operation,
 * in seconds; 0 for none.
 */
export interface Provider {
    /** The version that the SDK asks for. */
    readonly version: string;
    configure?(config: Properties): Awaitable<void>;
    /** Whether a changed provider configuration means that all its resources are elsewhere. */
    diffConfig?(olds: Properties, news: Properties): Difference;
    /** The inputs with defaults filled in, and what is wrong with them. Default: as they are. */
    check?(
        resource: Resource,
        olds: Properties,
        news: Properties,
        randomSeed: Uint8Array,
    ): Awaitable<{ inputs: Properties; failures?: { property: string; reason: string }[] }>;
    diff(resource: Resource, id: string, olds: State, news: Properties): Awaitable<Difference>;
    create(
        resource: Resource,
        inputs: Properties,
        preview: boolean,
        timeout?: number,
    ): Promise<{ id: string; outputs: Properties }>;
    /** Resolves to undefined where the resource is gone. */
    read(resource: Resource, id: string, state: State): Promise<({ id: string } & State) | undefined>;
    update(
        resource: Resource,
        id: string,
        olds: State,
        news: Properties,
        preview: boolean,
        timeout?: number,
    ): Promise<Properties>;
    delete(resource: Resource, id: string, state: State, timeout?: number): Promise<void>;
    invoke?(token: string, args: Properties): Promise<Properties>;
}

/**
 * Serves one provider instance to the engine on a loopback port of its own.
 *
 * @param engineAddress where the engine takes log messages; the first argument it gives a plugin.
 */
export async function serve(
    factory: (report: Report) => Provider,
    engineAddress?: string,
): Promise<{ port: number; stop: () => void }> {
    const server = new grpc.Server({
        "grpc.max_receive_message_length": -1,
        "grpc.max_send_message_length": -1,
    });
    const provider = factory(reporter(engineAddress));
    server.addService(
        rpc.ResourceProviderService,
        adapt(provider) as unknown as grpc.UntypedServiceImplementation,
    );
    const port = await new Promise<number>((resolve, reject) =>
        server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
            error ? reject(error) : resolve(bound),
        ),
    );
    return { port, stop: () => server.forceShutdown() };
}

function reporter(engineAddress: string | undefined): Report {
    if (!engineAddress) return () => undefined;
    const client = new engineRpc.EngineClient(engineAddress, grpc.credentials.createInsecure());
    return (message, options = {}) => {
        const request = filled(new engine.LogRequest(), {
            Message: message,
            Urn: options.urn ?? "",
            Ephemeral: options.passing ?? false,
            Severity: options.warning ? engine.LogSeverity.WARNING : engine.LogSeverity.INFO,
        });
        client.log(request, () => undefined);
    };
}

// biome-ignore lint/suspicious/noExplicitAny: one signature for twenty request types.
type Handler = (request: any) => unknown;

/** What a message's setters take, by the fields' names. */
type Fields<Message> = {
    [Name in keyof Message as Name extends `set${infer Field}` ? Field : never]?: Message[Name] extends (
        value: infer Value,
    ) => unknown
        ? Value
        : never;
};

function filled<Message extends object>(message: Message, fields: Fields<Message>): Message {
    for (const [name, value] of Object.entries(fields))
        (message as Record<string, (value: unknown) => void>)[`set${name}`]?.(value);
    return message;
}

function adapt(provider: Provider) {
    const handlers: Record<string, Handler> = {
        checkConfig: (request: proto.CheckRequest) =>
            filled(new proto.CheckResponse(), { Inputs: request.getNews() }),
        diffConfig: (request: proto.DiffRequest) =>
            different(
                provider.diffConfig?.(read(request.getOlds()), read(request.getNews())) ?? { changed: [] },
            ),
        configure: async (request: proto.ConfigureRequest) => {
            await provider.configure?.(configuration(request));
            return filled(new proto.ConfigureResponse(), { Supportspreview: true });
        },
        getSchema: () => filled(new proto.GetSchemaResponse(), { Schema: "{}" }),
        getPluginInfo: () => filled(new plugin.PluginInfo(), { Version: provider.version }),
        check: async (request: proto.CheckRequest) => {
            const news = read(request.getNews());
            const [resource, seed] = [resourceOf(request), request.getRandomseed_asU8()];
            const checked = await provider.check?.(resource, read(request.getOlds()), news, seed);
            const { inputs, failures = [] } = checked ?? { inputs: news };
            return filled(new proto.CheckResponse(), {
                Inputs: write(inputs),
                FailuresList: failures.map(({ property, reason }) =>
                    filled(new proto.CheckFailure(), { Property: property, Reason: reason }),
                ),
            });
        },
        diff: async (request: proto.DiffRequest) => {
            const [olds, news] = [before(request), read(request.getNews())];
            const difference = await provider.diff(resourceOf(request), request.getId(), olds, news);
            return different(difference, request.getIgnorechangesList());
        },
        create: async (request: proto.CreateRequest) => {
            const { id, outputs } = await provider.create(
                resourceOf(request),
                read(request.getProperties()),
                request.getPreview(),
                request.getTimeout(),
            );
            return filled(new proto.CreateResponse(), { Id: id, Properties: write(outputs) });
        },
        read: async (request: proto.ReadRequest) => {
            const state = { inputs: read(request.getInputs()), outputs: read(request.getProperties()) };
            const found = await provider.read(resourceOf(request), request.getId(), state);
            const response = new proto.ReadResponse();
            if (!found) return response;
            const { id, inputs, outputs } = found;
            return filled(response, { Id: id, Properties: write(outputs), Inputs: write(inputs) });
        },
        update: async (request: proto.UpdateRequest) => {
            const outputs = await provider.update(
                resourceOf(request),
                request.getId(),
                before(request),
                read(request.getNews()),
                request.getPreview(),
                request.getTimeout(),
            );
            return filled(new proto.UpdateResponse(), { Properties: write(outputs) });
        },
        delete: async (request: proto.DeleteRequest) => {
            const state = { inputs: read(request.getOldInputs()), outputs: read(request.getProperties()) };
            await provider.delete(resourceOf(request), request.getId(), state, request.getTimeout());
            return new Empty();
        },
        invoke: async (request: proto.InvokeRequest) => {
            if (!provider.invoke) throw new Error(`no function ${request.getTok()}`);
            const answer = await provider.invoke(request.getTok(), read(request.getArgs()));
            return filled(new proto.InvokeResponse(), { Return: write(answer) });
        },
        cancel: () => new Empty(),
    };
    const answering =
        (handler: Handler) =>
        async (call: { request: unknown }, callback: (error: unknown, response?: unknown) => void) => {
            try {
                callback(null, await handler(call.request));
            } catch (error) {
                callback(failure(error as Error));
            }
        };
    return Object.fromEntries(Object.entries(handlers).map(([name, each]) => [name, answering(each)]));
}

function resourceOf(request: { getUrn(): string }): Resource {
    const urn = request.getUrn();
    const [, , types = "", ...name] = urn.split("::");
    return { urn, type: types.split("$").at(-1) ?? types, name: name.join("::") };
}

function before(request: proto.DiffRequest | proto.UpdateRequest): State {
    return { inputs: read(request.getOldInputs()), outputs: read(request.getOlds()) };
}

function read(value: Struct | undefined): Properties {
    return value ? (value.toJavaScript() as Properties) : {};
}

function write(value: Properties): Struct {
    // Struct has no undefined: drop such properties as JSON does.
    return Struct.fromJavaScript(JSON.parse(JSON.stringify(value)));
}

/** A value without the mark of a secret, which anywhere inside wraps the whole value. */
export function plain(value: unknown): unknown {
    if (Array.isArray(value)) return value.map(plain);
    if (typeof value !== "object" || value === null) return value;
    if (signature in value && "value" in value) return plain(value.value);
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
}

/** Provider configuration comes with its secrets still wrapped, and what is not a string as JSON in one. */
function configuration(request: proto.ConfigureRequest): Properties {
    const given = Object.entries(plain(read(request.getArgs())) as Properties);
    return Object.fromEntries(given.map(([key, value]) => [key, parsed(value)]));
}

function parsed(value: unknown): unknown {
    try {
        return typeof value === "string" ? JSON.parse(value) : value;
    } catch {
        return value;
    }
}

function different(difference: Difference, ignored: string[] = []): proto.DiffResponse {
    const kept = (path: string) =>
        !ignored.some((prefix) => path === prefix || path.startsWith(`${prefix}.`));
    const changed = difference.changed.filter(kept);
    const replaces = (difference.replaces ?? []).filter(kept);
    const { DIFF_SOME, DIFF_NONE } = proto.DiffResponse.DiffChanges;
    const { UPDATE, UPDATE_REPLACE } = proto.PropertyDiff.Kind;
    const response = filled(new proto.DiffResponse(), {
        Changes: changed.length > 0 ? DIFF_SOME : DIFF_NONE,
        ReplacesList: replaces,
        Deletebeforereplace: difference.deleteBeforeReplace ?? false,
        DiffsList: [...new Set(changed.map((path) => path.split(/[.[]/)[0] ?? path))],
        Hasdetaileddiff: true,
    });
    for (const path of changed) {
        const Kind = replaces.includes(path) ? UPDATE_REPLACE : UPDATE;
        response.getDetaileddiffMap().set(path, filled(new proto.PropertyDiff(), { Inputdiff: true, Kind }));
    }
    return response;
}

function failure(error: Error) {
    const plain = { code: grpc.status.UNKNOWN, details: error.message, message: error.message };
    if (!(error instanceof NotReady)) return plain;
    const detail = filled(new proto.ErrorResourceInitFailed(), {
        Id: error.id,
        Properties: write(error.outputs),
        ReasonsList: error.reasons,
    });
    const any = new Any();
    any.pack(detail.serializeBinary(), "pulumirpc.ErrorResourceInitFailed");
    const body = filled(new status.Status(), {
        Code: plain.code,
        Message: error.message,
        DetailsList: [any],
    });
    const metadata = new grpc.Metadata();
    metadata.add("grpc-status-details-bin", Buffer.from(body.serializeBinary()));
    return { ...plain, metadata };
}
