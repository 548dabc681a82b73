/** Imports: items that stream into a version which is being built, each exactly once, whatever breaks meanwhile. */

import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import * as grpc from "@grpc/grpc-js";

import { CirError, fromRpc } from "./errors.js";
import { ErrorReason, ItemErrorSchema } from "./gen/cir/common/v1/errors_pb.js";
import type { ItemError } from "./gen/cir/common/v1/errors_pb.js";
import type { Value } from "./gen/cir/common/v1/payload_pb.js";
import {
  CatalogService, ImportItemsRequestSchema, ImportItemsResponseSchema, ItemWriteSchema,
} from "./gen/cir/search/v1/catalog_pb.js";
import type { ImportItemsResponse, ItemWrite } from "./gen/cir/search/v1/catalog_pb.js";
import { checkOptions, make } from "./requests.js";

type Items = Iterable<ItemWriteInit> | AsyncIterable<ItemWriteInit>;
/** An item to write: `{ item: { id, payload }, content }`, or `features` in its item instead of the content. */
export type ItemWriteInit = MessageInitShape<typeof ItemWriteSchema>;
type Stream = grpc.ClientDuplexStream<Uint8Array, ImportItemsResponse>;

/** An item as it is sent, and its bytes besides image and features. */
interface Encoded {
  readonly bytes: Uint8Array;
  readonly facts: number;
}

/** A message as it is sent, and the place behind its last item. */
interface Message {
  readonly bytes: Uint8Array;
  readonly end: bigint;
}

/** Messages that are sent before the first of them is answered. */
const WINDOW = 8;
const MAX_MESSAGE_BYTES = 64 * 2 ** 20;
/** Bytes of a message, unless a single item has more. */
const MAX_BATCH_BYTES = 4 * 2 ** 20;
/**
 * The same besides images and features. A service takes 100,000 fields and elements in a message, each of which has two
 * bytes or more.
 */
const MAX_BATCH_FACTS = 200_000;
/** What no item has that a service takes: a payload has at most 1 MiB as JSON and 10,000 fields and elements. */
const MAX_FACTS = 2 * 2 ** 20;
const MAX_VALUES = 10_000;
const MAX_ITEM_ID_BYTES = 2048;
const { ABORTED, CANCELLED, DEADLINE_EXCEEDED, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE, UNKNOWN } = grpc.status;

export interface ImportOptions {
  /**
   * Names the import, so that a program that is started again goes on where it was: it gives the same token and the
   * same items from the first on. Default: one of this call's own.
   */
  token?: string;
  /** Items in a message; default 64, fewer where they are large. */
  batchItems?: number;
  /**
   * Time for which streams that break, or are put off, are opened again after the last item that got done; default
   * 60,000.
   */
  patienceMs?: number;
  /** Called with each answer. */
  onProgress?: (progress: Imported) => void;
  /** Ends the import, which then fails with the signal's reason; what is done stays done. */
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
  checkOptions(options, "token", "batchItems", "patienceMs", "onProgress", "signal");
  const { patienceMs = 60_000, batchItems = 64, signal } = options;
  if (!Number.isInteger(batchItems) || batchItems < 1) {
    throw new TypeError(`batchItems takes a whole number of 1 or more, not ${String(batchItems)}`);
  }
  if (typeof patienceMs !== "number" || !(patienceMs >= 0)) {
    throw new TypeError(`patienceMs takes milliseconds of 0 or more, not ${String(patienceMs)}`);
  }
  const work = new Importing(version, items, options);
  let deadline = Date.now() + patienceMs;
  let wait = 200;
  try {
    for (;;) {
      signal?.throwIfAborted();
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
    return error.reason === ErrorReason.OVERLOADED || error.reason === ErrorReason.RATE_LIMITED;
  }
  if (error.code === UNKNOWN) {
    return error.reasonName === ""; // what gRPC makes of some breaks
  }
  return [UNAVAILABLE, ABORTED, DEADLINE_EXCEEDED, CANCELLED].includes(error.code);
}

/** The state of an import over all its streams. */
class Importing {
  readonly progress: Imported;
  readonly #items: Iterator<ItemWriteInit> | AsyncIterator<ItemWriteInit>;
  #taken = 0n;
  /** An item that did not fit into the message before. */
  #left: Encoded | undefined;
  /** Kept to be sent again. */
  #unanswered: Message[] = [];
  /** Of items that were not sent, by their place, until their place is answered for. */
  readonly #ownErrors = new Map<bigint, ItemError>();

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
      (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
      (bytes) => fromBinary(ImportItemsResponseSchema, bytes),
      metadata,
    );
    const cancel = (): void => call.cancel();
    this.options.signal?.addEventListener("abort", cancel);
    const answers = call[Symbol.asyncIterator]() as AsyncIterator<ImportItemsResponse>;
    try {
      const done = this.progress.done;
      call.write(
        toBinary(
          ImportItemsRequestSchema,
          make(ImportItemsRequestSchema, {
            parent: this.version, token: this.progress.token, firstIndex: done, knownIndex: done,
          }),
        ),
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
          call.write(this.#unanswered[sent]!.bytes);
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
    const first = this.#left === undefined ? this.#taken : this.#taken - 1n;
    const items: Uint8Array[] = [];
    let size = 0;
    let facts = 0;
    while (items.length < (this.options.batchItems ?? 64)) {
      const item = this.#left ?? (await this.#next());
      this.#left = undefined;
      if (item === undefined) {
        break;
      }
      size += item.bytes.length;
      facts += item.facts;
      if (items.length > 0 && (size > MAX_BATCH_BYTES || facts > MAX_BATCH_FACTS)) {
        this.#left = item;
        break;
      }
      items.push(item.bytes);
    }
    if (items.length === 0) {
      return false;
    }
    const { firstIndex, items: list } = ImportItemsRequestSchema.field;
    const message = new BinaryWriter().tag(firstIndex.number, WireType.Varint).uint64(first);
    items.forEach((bytes) => message.tag(list.number, WireType.LengthDelimited).bytes(bytes));
    this.#unanswered.push({ bytes: message.finish(), end: first + BigInt(items.length) });
    return true;
  }

  /** The next item; of one that cannot be sent the id alone, which the service refuses at its place. */
  async #next(): Promise<Encoded | undefined> {
    const next = await this.#items.next();
    if (next.done) {
      return undefined;
    }
    const index = this.#taken;
    this.#taken += 1n;
    let problem: string;
    let reason = ErrorReason.OUT_OF_RANGE;
    try {
      const item = make(ItemWriteSchema, next.value, `items[${index}]`);
      const bytes = encode(item, index);
      const facts = bytes.length - item.content.length - (item.item?.features?.data.length ?? 0);
      problem = sizeProblem(item, bytes.length, facts);
      if (problem === "") {
        return { bytes, facts };
      }
    } catch (error) {
      if (!(error instanceof CirError)) {
        throw error;
      }
      ({ message: problem, reason } = error);
    }
    const itemId = (next.value as ItemWrite).item?.id ?? "";
    const failed = { index: Number(index), itemId, code: INVALID_ARGUMENT, reason, message: problem };
    this.#ownErrors.set(index, create(ItemErrorSchema, failed));
    const bytes = toBinary(ItemWriteSchema, create(ItemWriteSchema, { item: { id: sentId(itemId) } }));
    return { bytes, facts: bytes.length };
  }

  /** Note what an answer says is done. */
  #take(answer: ImportItemsResponse): void {
    while (this.#unanswered.length > 0 && this.#unanswered[0]!.end <= answer.nextIndex) {
      this.#unanswered.shift();
    }
    const { progress } = this;
    progress.done = answer.nextIndex;
    progress.written = answer.written;
    progress.rejected = answer.rejected;
    for (const error of answer.errors) {
      progress.errors.push(this.#ownErrors.get(BigInt(error.index)) ?? error);
      this.#ownErrors.delete(BigInt(error.index));
    }
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
      id = sentId(next.value.item?.id ?? "");
      this.#taken += 1n;
    }
    if (id !== undefined && Buffer.byteLength(id) <= MAX_ITEM_ID_BYTES && id !== lastItemId) {
      throw new Error(`item ${nextIndex - 1n} is ${id}, but the import with ${token} has ${lastItemId}; ${advice}`);
    }
  }
}

/** An id as it is sent where it may be none: Unicode, and no longer than what is answered of it. */
const sentId = (id: string): string => id.slice(0, 2 * MAX_ITEM_ID_BYTES).toWellFormed();

function encode(item: ItemWrite, index: bigint): Uint8Array {
  try {
    return toBinary(ItemWriteSchema, item);
  } catch (error) {
    throw new TypeError(`items[${index}]: ${(error as Error).message}`, { cause: error });
  }
}

/** What keeps an item from being sent, or an empty text. */
function sizeProblem(item: ItemWrite, size: number, facts: number): string {
  if (size + 64 > MAX_MESSAGE_BYTES) {
    return `the item has ${size} bytes, a message at most ${MAX_MESSAGE_BYTES}; send a smaller image`;
  }
  if (facts > MAX_FACTS) {
    return `the item has ${facts} bytes besides image and features; a payload has at most 1 MiB as JSON`;
  }
  // Two bytes or more are a value, so a smaller one has no more than are taken.
  const values = facts > MAX_BATCH_FACTS ? countOf(Object.values(item.item?.payload?.fields ?? {})) : 0;
  return values > MAX_VALUES ? `the payload has ${values} fields and elements of lists, at most ${MAX_VALUES} are allowed` : "";
}

const countOf = (values: Value[]): number =>
  values.reduce((sum, { kind }) => sum + 1 + (kind.case === "listValue" ? countOf(kind.value.values) : 0), 0);
