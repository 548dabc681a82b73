/** The client: a channel that uses every replica, calls as promises, pages as iterators. */

import { readFileSync } from "node:fs";

import { clone, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescMethodUnary, DescService, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";

import { fromRpc } from "./errors.js";
import { CatalogService, ListItemsRequestSchema } from "./gen/cir/search/v1/catalog_pb.js";
import type { Item } from "./gen/cir/search/v1/catalog_pb.js";
import { SearchRequestSchema, SearchService } from "./gen/cir/search/v1/search_pb.js";
import type { SearchResult } from "./gen/cir/search/v1/search_pb.js";
import { importItems } from "./imports.js";
import type { Imported, ImportOptions } from "./imports.js";
import { checkOptions, kindOf, make } from "./requests.js";

/** The service config of every client, as docs/clients.md publishes it. */
export const serviceConfig = readFileSync(new URL("../../service_config.json", import.meta.url), "utf8");

const MAX_MESSAGE_BYTES = 64 * 2 ** 20;

const CHANNEL_OPTIONS: grpc.ChannelOptions = {
  "grpc.service_config": serviceConfig,
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
  // A request that the buffers have no room for is sent once only; the defaults are 1 MiB and 16 MiB.
  "grpc.per_rpc_retry_buffer_size": MAX_MESSAGE_BYTES,
  "grpc.retry_buffer_size": 4 * MAX_MESSAGE_BYTES,
  // A replica whose machine is gone closes no connection.
  "grpc.keepalive_time_ms": 3000,
  "grpc.keepalive_timeout_ms": 3000,
  "grpc.dns_min_time_between_resolutions_ms": 1000,
  "grpc.initial_reconnect_backoff_ms": 200,
  "grpc.max_reconnect_backoff_ms": 2000,
};

/** PEM files' contents of a TLS client: the authority to trust, and for mutual TLS its own pair. */
export interface Tls {
  ca?: Buffer;
  certificate?: Buffer;
  key?: Buffer;
}

export interface ClientOptions {
  /** API key, sent with every call. */
  key?: string;
  /** Encrypts; `{}` trusts the authorities of Node. Without it nothing is encrypted. */
  tls?: Tls;
  /** Time that a call may take which names none of its own; default 30,000, Infinity sets no limit. Imports are no such calls. */
  timeoutMs?: number;
  /** Options of the channel that go before those of this package. */
  channel?: grpc.ChannelOptions;
}

export interface CallOptions {
  /** Time that this call may take; Infinity sets no limit. */
  timeoutMs?: number;
  /** Ends the call, which then fails with the signal's reason. */
  signal?: AbortSignal;
}

/** The methods of a service: from the fields of a request to a promise of its answer. */
export type Calls<S extends DescService> = {
  readonly [Name in keyof S["method"]]: S["method"][Name] extends DescMethodUnary<infer I, infer O>
    ? (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>
    : never;
};

/** Longest time that a timer of Node waits, some 25 days. */
const LONGEST_MS = 2 ** 31 - 1;

/** The moment at which a time is over. Of times that no timer takes it is never. */
function deadlineIn(timeoutMs: number): number {
  if (typeof timeoutMs !== "number" || !(timeoutMs > 0)) {
    const what = typeof timeoutMs === "number" ? String(timeoutMs) : kindOf(timeoutMs);
    throw new TypeError(`timeoutMs takes milliseconds above 0, or Infinity for no limit, not ${what}`);
  }
  return timeoutMs > LONGEST_MS ? Infinity : Date.now() + timeoutMs;
}

/** Calls the search service. Make one and keep it. */
export class Client {
  /** Composed, turn-based, filtered queries. */
  readonly search: Calls<typeof SearchService>;
  /** Catalogs and their items. */
  readonly catalogs: Calls<typeof CatalogService>;

  readonly #channel: grpc.Client;
  readonly #metadata = new grpc.Metadata();
  readonly #timeoutMs: number;

  /**
   * @param address "host:port", whose name may stand for several replicas, or any target of gRPC:
   * "ipv4:10.0.0.1:50050,10.0.0.2:50050", "unix:/path". Connects with the first call.
   */
  constructor(address: string, options: ClientOptions = {}) {
    checkOptions(options, "key", "tls", "timeoutMs", "channel");
    const { tls, key } = options;
    const credentials =
      tls === undefined
        ? grpc.credentials.createInsecure()
        : grpc.credentials.createSsl(tls.ca ?? null, tls.key ?? null, tls.certificate ?? null);
    this.#channel = new grpc.Client(address, credentials, { ...CHANNEL_OPTIONS, ...options.channel });
    this.#timeoutMs = options.timeoutMs ?? 30_000;
    deadlineIn(this.#timeoutMs);
    if (key) {
      this.#metadata.set("x-api-key", key);
    }
    this.search = this.calls(SearchService);
    this.catalogs = this.calls(CatalogService);
  }

  /** The calls of any service of the contract. */
  calls<S extends DescService>(service: S): Calls<S> {
    const unary = service.methods.filter((method) => method.methodKind === "unary");
    return Object.fromEntries(
      unary.map((method) => [
        method.localName,
        (request: MessageInitShape<typeof method.input>, options?: CallOptions) =>
          this.#call(method as DescMethodUnary, request, options),
      ]),
    ) as unknown as Calls<S>;
  }

  #call(method: DescMethodUnary, request: MessageInitShape<typeof method.input>, options: CallOptions = {}) {
    const { signal, timeoutMs = this.#timeoutMs } = options;
    return new Promise<MessageShape<typeof method.output>>((resolve, reject) => {
      checkOptions(options, "timeoutMs", "signal");
      signal?.throwIfAborted();
      const deadline = deadlineIn(timeoutMs);
      const message = Buffer.from(toBinary(method.input, make(method.input, request)));
      const cancel = () => call.cancel();
      const call = this.#channel.makeUnaryRequest(
        `/${method.parent.typeName}/${method.name}`,
        (bytes: Buffer) => bytes,
        (bytes) => fromBinary(method.output, bytes),
        message,
        this.#metadata,
        { deadline },
        (error, answer) => {
          signal?.removeEventListener("abort", cancel);
          if (error === null) {
            resolve(answer!);
          } else {
            reject(signal?.aborted ? signal.reason : fromRpc(error));
          }
        },
      );
      signal?.addEventListener("abort", cancel);
    });
  }

  /** The results of a query, best first, page after page; `pageSize` is the size of a page. */
  async *results(query: MessageInitShape<typeof SearchRequestSchema>, options?: CallOptions): AsyncGenerator<SearchResult> {
    const request = clone(SearchRequestSchema, make(SearchRequestSchema, query));
    do {
      const page = await this.search.search(request, options);
      yield* page.results;
      request.pageToken = page.nextPageToken;
    } while (request.pageToken !== "");
  }

  /** The items of a catalog, page after page. */
  async *items(query: MessageInitShape<typeof ListItemsRequestSchema>, options?: CallOptions): AsyncGenerator<Item> {
    const request = clone(ListItemsRequestSchema, make(ListItemsRequestSchema, query));
    do {
      const page = await this.catalogs.listItems(request, options);
      yield* page.items;
      request.pageToken = page.nextPageToken;
    } while (request.pageToken !== "");
  }

  /**
   * Writes items into a version that is being built (`createCatalogVersion`), by its resource name. The items are read
   * once, in order. Each is written exactly once, also when the connection or the service breaks meanwhile; items that
   * the service rejects, and those that no message holds, fail alone. `finishCatalogVersion` and
   * `publishCatalogVersion` come next.
   */
  importItems(
    version: string,
    items: Parameters<typeof importItems>[3],
    options?: ImportOptions,
  ): Promise<Imported> {
    return importItems(this.#channel, this.#metadata, version, items, options);
  }

  /** Ends the channel; calls under way fail. */
  close(): void {
    this.#channel.close();
  }
}
