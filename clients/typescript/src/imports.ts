/** Imports: items that stream into a version which is being built, each exactly once, whatever breaks meanwhile. */

import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";

import { CirError, fromRpc } from "./errors.js";
import type { ItemError } from "./gen/cir/common/v1/errors_pb.js";
import {
  CatalogService, ImportItemsRequestSchema, ImportItemsResponseSchema, ItemWriteSchema,
} from "./gen/cir/search/v1/catalog_pb.js";
import type { ImportItemsRequest, ImportItemsResponse, ItemWrite } from "./gen/cir/search/v1/catalog_pb.js";

type Items = Iterable<ItemInit> | AsyncIterable<ItemInit>;
type ItemInit = MessageInitShape<typeof ItemWriteSchema>;
type Stream = grpc.ClientDuplexStream<ImportItemsRequest, ImportItemsResponse>;

/** Messages that are sent before the first of them is answered. */
const WINDOW = 8;
const MAX_BATCH_BYTES = 4 * 2 ** 20;
const MAX_ITEM_ID_BYTES = 2048;
const { ABORTED, CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE, UNKNOWN } = grpc.status;

export interface ImportOptions {
  /**
   * Names the import, so that a program that is started again goes on where it was: it gives the same token and the
   * same items from the first on. Default: one of this call's own.
   */
  token?: string;
  /** Items in a message; default 64. */
  batchItems?: number;
  /** Time for which streams that break are opened again after the last item that got done; default 60,000. */
  patienceMs?: number;
  /** Called with each answer. */
  onProgress?: (progress: Imported) => void;
  /** Ends the import; what is done stays done. */
  signal?: AbortSignal;
}

/** How far an import is. */
export interface Imported {
  /** Items that are written or rejected. */
  done: bigint;
  written: bigint;
  rejected: bigint;
  /** One for each rejected item, by its place in the import; fewer where the service remembers no more. */
  errors: ItemError[];
  token: string;
}

/** Resource name of a version, "catalogs/shop/versions/v0001". */
export const versionName = (catalog: string, version: string): string => `catalogs/${catalog}/versions/${version}`;

/** Carry an import out over as many streams as it takes. */
export async function importItems(
  channel: grpc.Client, metadata: grpc.Metadata, version: string, items: Items, options: ImportOptions = {},
): Promise<Imported> {
  const { patienceMs = 60_000, signal } = options;
  const work = new Importing(version, items, options);
  let deadline = Date.now() + patienceMs;
  let wait = 200;
  try {
    for (;;) {
      const before = work.progress.done;
      try {
        await work.stream(channel, metadata);
        return work.progress;
      } catch (error) {
        signal?.throwIfAborted();
        if (work.progress.done > before) {
          deadline = Date.now() + patienceMs;
          wait = 200;
        }
        const longer = error instanceof CirError ? Math.max(wait, error.retryAfterMs) : wait;
        if (!isResumable(error) || Date.now() + longer > deadline) {
          throw error;
        }
        await pause(longer, undefined, signal ? { signal } : {});
        wait = Math.min(2 * wait, 5000);
      }
    }
  } finally {
    await work.close();
  }
}

function isResumable(error: unknown): boolean {
  if (!(error instanceof CirError)) {
    return false;
  }
  if (error.code === RESOURCE_EXHAUSTED) {
    return error.reason === "OVERLOADED";
  }
  if (error.code === UNKNOWN) {
    return error.reason === ""; // what gRPC makes of some breaks
  }
  return [UNAVAILABLE, ABORTED, DEADLINE_EXCEEDED, CANCELLED].includes(error.code);
}

/** The state of an import over all its streams. */
class Importing {
  readonly progress: Imported;
  readonly #items: Iterator<ItemInit> | AsyncIterator<ItemInit>;
  #taken = 0n;
  /** An item that did not fit into the message before. */
  #left: ItemWrite | undefined;
  /** Kept to be sent again. */
  #unanswered: ImportItemsRequest[] = [];

  constructor(
    readonly version: string,
    items: Items,
    readonly options: ImportOptions,
  ) {
    this.#items = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
    const token = options.token ?? randomBytes(16).toString("hex");
    this.progress = { done: 0n, written: 0n, rejected: 0n, errors: [], token };
  }

  /** Send items over one stream until all are done. */
  async stream(channel: grpc.Client, metadata: grpc.Metadata): Promise<void> {
    const call: Stream = channel.makeBidiStreamRequest(
      `/${CatalogService.typeName}/${CatalogService.method.importItems.name}`,
      (request: ImportItemsRequest) => Buffer.from(toBinary(ImportItemsRequestSchema, request)),
      (bytes) => fromBinary(ImportItemsResponseSchema, bytes),
      metadata,
    );
    const cancel = (): void => call.cancel();
    this.options.signal?.addEventListener("abort", cancel);
    const answers = call[Symbol.asyncIterator]() as AsyncIterator<ImportItemsResponse>;
    try {
      const done = this.progress.done;
      call.write(
        create(ImportItemsRequestSchema, {
          parent: this.version, token: this.progress.token, firstIndex: done, knownIndex: done,
        }),
      );
      const first = await answers.next();
      if (first.done) {
        throw new CirError("the stream ended without an answer", UNKNOWN);
      }
      await this.#skip(first.value);
      this.#take(first.value);
      let sent = 0;
      for (;;) {
        while (sent < WINDOW && (sent < this.#unanswered.length || (await this.#batch()))) {
          call.write(this.#unanswered[sent]!);
          sent += 1;
        }
        if (sent === 0) {
          call.end();
        }
        const answer = await answers.next();
        if (answer.done) {
          return;
        }
        const before = this.#unanswered.length;
        this.#take(answer.value);
        sent -= before - this.#unanswered.length;
      }
    } catch (error) {
      throw error instanceof Error && "details" in error ? fromRpc(error as grpc.ServiceError) : error;
    } finally {
      this.options.signal?.removeEventListener("abort", cancel);
      call.on("error", () => {}); // of the cancelling
      call.cancel();
    }
  }

  /** Let the source of the items know that no more are taken. */
  async close(): Promise<void> {
    await this.#items.return?.();
  }

  /** Take the items of the next message; false when there are none. */
  async #batch(): Promise<boolean> {
    const message = create(ImportItemsRequestSchema, { firstIndex: this.#taken });
    let size = 0;
    if (this.#left !== undefined) {
      message.firstIndex -= 1n;
      message.items.push(this.#left);
      size = sizeOf(this.#left);
      this.#left = undefined;
    }
    while (message.items.length < (this.options.batchItems ?? 64)) {
      const next = await this.#items.next();
      if (next.done) {
        break;
      }
      const item = create(ItemWriteSchema, next.value);
      this.#taken += 1n;
      size += sizeOf(item);
      if (message.items.length > 0 && size > MAX_BATCH_BYTES) {
        this.#left = item;
        break;
      }
      message.items.push(item);
    }
    if (message.items.length === 0) {
      return false;
    }
    this.#unanswered.push(message);
    return true;
  }

  /** Note what an answer says is done. */
  #take(answer: ImportItemsResponse): void {
    const isDone = ({ firstIndex, items }: ImportItemsRequest): boolean =>
      firstIndex + BigInt(items.length) <= answer.nextIndex;
    while (this.#unanswered.length > 0 && isDone(this.#unanswered[0]!)) {
      this.#unanswered.shift();
    }
    const { progress } = this;
    progress.done = answer.nextIndex;
    progress.written = answer.written;
    progress.rejected = answer.rejected;
    progress.errors.push(...answer.errors);
    this.options.onProgress?.(progress);
  }

  /** Pass over items that an earlier program with this token has sent. */
  async #skip({ nextIndex, lastItemId }: ImportItemsResponse): Promise<void> {
    const token = `token ${JSON.stringify(this.progress.token)}`;
    const advice = "give each import a token of its own";
    let id: string | undefined;
    while (this.#taken < nextIndex) {
      const next = await this.#items.next();
      if (next.done) {
        throw new Error(`${nextIndex} items are done by ${token}, but there are ${this.#taken}; ${advice}`);
      }
      id = next.value.item?.id ?? "";
      this.#taken += 1n;
    }
    if (id !== undefined && Buffer.byteLength(id) <= MAX_ITEM_ID_BYTES && id !== lastItemId) {
      throw new Error(`item ${nextIndex - 1n} is ${id}, but the import with ${token} has ${lastItemId}; ${advice}`);
    }
  }
}

const sizeOf = ({ content, item }: ItemWrite): number =>
  content.length + (item?.features?.data.length ?? 0) + 256 * (1 + Object.keys(item?.payload?.fields ?? {}).length);
