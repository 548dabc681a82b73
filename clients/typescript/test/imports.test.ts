import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";

import { Client, ErrorReason, ItemErrorSchema, ImportItemsRequestSchema, ImportItemsResponseSchema, payload, versionName } from "../src/index.js";
import type { ImportItemsRequest, ImportItemsResponse, ImportOptions, Imported, ItemError } from "../src/index.js";
import { refusal } from "./refusal.js";

const ends: (() => void)[] = [];
after(() => ends.forEach((end) => end()));

/**
 * A catalog service that writes items down, and whose streams break after `life` messages. The last of them is written,
 * but not answered. Items without an image are rejected.
 */
class Breaking {
  streams = 0;
  written: string[] = [];
  sizes: number[] = [];

  constructor(readonly life: number, readonly code = grpc.status.UNAVAILABLE, readonly metadata = new grpc.Metadata()) {}

  async client(): Promise<Client> {
    const server = new grpc.Server({ "grpc.max_receive_message_length": 64 * 2 ** 20 });
    const method = {
      path: "/cir.search.v1.CatalogService/ImportItems",
      requestStream: true,
      responseStream: true,
      requestSerialize: (request: ImportItemsRequest) => Buffer.from(toBinary(ImportItemsRequestSchema, request)),
      requestDeserialize: (bytes: Buffer) => fromBinary(ImportItemsRequestSchema, bytes),
      responseSerialize: (answer: ImportItemsResponse) => Buffer.from(toBinary(ImportItemsResponseSchema, answer)),
      responseDeserialize: (bytes: Buffer) => fromBinary(ImportItemsResponseSchema, bytes),
    };
    const handler = (call: grpc.ServerDuplexStream<ImportItemsRequest, ImportItemsResponse>): void => this.#serve(call);
    server.addService({ ImportItems: method }, { ImportItems: handler });
    const port = await new Promise((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      );
    });
    const client = new Client(`127.0.0.1:${port}`);
    ends.push(() => client.close(), () => server.forceShutdown());
    return client;
  }

  #serve(call: grpc.ServerDuplexStream<ImportItemsRequest, ImportItemsResponse>): void {
    this.streams += 1;
    let left = this.life;
    call.on("data", ({ firstIndex, items }: ImportItemsRequest) => {
      if (left < 0) return;
      if (items.length > 0) this.sizes.push(items.length);
      const errors: MessageInitShape<typeof ItemErrorSchema>[] = [];
      for (const { item, content } of items.slice(this.written.length - Number(firstIndex))) {
        if (content.length === 0) errors.push({ index: this.written.length, message: "no image" });
        this.written.push(item?.id ?? "");
      }
      if (left === 0) {
        call.emit("error", { code: this.code, details: "the end", metadata: this.metadata });
      } else {
        const done = BigInt(this.written.length);
        const lastItemId = this.written.at(-1) ?? "";
        call.write(create(ImportItemsResponseSchema, { nextIndex: done, written: done, lastItemId, errors }));
      }
      left -= 1;
    });
    call.on("end", () => call.end());
  }
}

const ids = (count: number): string[] => Array.from({ length: count }, (_, n) => `item-${n}`);

async function importInto(service: Breaking, count: number, size: number, options: ImportOptions = {}) {
  const items = ids(count).map((id) => ({ item: { id }, content: new Uint8Array(size) }));
  return (await service.client()).importItems(versionName("shop", "v0001"), items, options);
}

test("items count once, whatever breaks", async () => {
  const service = new Breaking(3);
  const { done } = await importInto(service, 20, 1, { batchItems: 3 });
  assert.equal(done, 20n);
  assert.deepEqual(service.written, ids(20));
  assert.ok(service.streams > 2);
});

interface Row {
  name: string;
  items: { count: number; image: number; text?: number; integers?: number }[];
  messages: number[];
  rejected: number[];
}

/** The table that every client's tests read. */
const table = process.env["CIR_TEST_IMPORTS"] ?? new URL("../../../imports.json", import.meta.url);
for (const { name, items, messages, rejected } of JSON.parse(readFileSync(table, "utf8")) as Row[]) {
  test(`messages hold what the service takes: ${name}`, async () => {
    const service = new Breaking(100);
    const made = items.flatMap(({ count, image, text, integers }) =>
      Array.from({ length: count }, () => ({
        content: new Uint8Array(image),
        payload: payload({
          ...(text === undefined ? {} : { text: "a".repeat(text) }),
          ...(integers === undefined ? {} : { integers: Array.from({ length: integers }, () => 7) }),
        }),
      })),
    );
    const writes = made.map(({ content, payload }, n) => ({ item: { id: `item-${n}`, payload }, content }));
    const { errors } = await (await service.client()).importItems(versionName("shop", "v0001"), writes);
    assert.deepEqual(service.sizes, messages);
    assert.deepEqual(service.written, ids(made.length));
    assert.deepEqual(
      errors.map(({ index, itemId, code, reason }) => ({ index, itemId, code, reason })),
      rejected.map((index) => ({ index, itemId: `item-${index}`, code: 3, reason: ErrorReason.OUT_OF_RANGE })),
    );
  });
}

test("half a surrogate pair is rejected alone, at its place", async () => {
  const service = new Breaking(100);
  const content = new Uint8Array(1);
  const writes = ["a\ud800", "b", "a\ud801"].map((id) => ({ item: { id }, content }));
  writes.push({ item: { id: "c", payload: payload({ title: "\udfff" }) } as { id: string }, content });
  const { errors }: Imported = await (await service.client()).importItems(versionName("shop", "v0001"), writes);
  assert.deepEqual(
    errors.map(({ index, itemId, reason, message }: ItemError) => [index, itemId, reason, message.split(" ")[0]]),
    [
      [0, "a\ud800", ErrorReason.FIELD_INVALID, "items[0].item.id"],
      [2, "a\ud801", ErrorReason.FIELD_INVALID, "items[2].item.id"],
      [3, "c", ErrorReason.FIELD_INVALID, "items[3].item.payload.fields.title.kind.value"],
    ],
  );
  assert.deepEqual(service.written, ["a\ufffd", "b", "a\ufffd", "c"]);
});

test("a program's own faults end the import by name", async () => {
  const [content, id] = [new Uint8Array(1), "a"];
  const refused: [unknown, RegExp][] = [
    [{ item: { id }, content: "/path.jpg" }, /^items\[1\]\.content takes bytes .*, not a string$/],
    [{ item: { id }, contents: content }, /^items\[1\]\.contents is no field of .*; its fields are item, content$/],
    [{ item: { id, payload: { a: 1 } }, content }, /^items\[1\]\.item\.payload\.a is no field of/],
    [undefined, /^items\[1\] takes an object, .* not undefined$/],
  ];
  for (const [write, message] of refused) {
    const client = await new Breaking(100).client();
    const items = [{ item: { id }, content }, write as object];
    await assert.rejects(client.importItems(versionName("shop", "v0001"), items), { name: "TypeError", message });
  }
  const options: ImportOptions[] = [{ batchItems: 0 }, { batchItems: NaN }, { batchItems: 1.5 }, { patienceMs: NaN }];
  for (const option of options) {
    await assert.rejects(importInto(new Breaking(100), 1, 1, option), { name: "TypeError", message: /takes/ });
  }
});

test("a signal that is aborted imports nothing", async () => {
  const service = new Breaking(100);
  await assert.rejects(importInto(service, 3, 1, { signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.deepEqual([service.streams, service.written], [0, []]);
  const away = new Breaking(0);
  const importing = importInto(away, 3, 1, { signal: AbortSignal.timeout(300) });
  await assert.rejects(importing, { name: "TimeoutError" });
  assert.ok(away.streams > 0);
});

test("a rate that is used up is waited for, as long as the service says and patience lasts", async () => {
  const limited = new Breaking(3, grpc.status.RESOURCE_EXHAUSTED, refusal("RATE_LIMITED", { seconds: 0 }));
  const { done } = await importInto(limited, 8, 1, { batchItems: 3 });
  assert.equal(done, 8n);
  assert.ok(limited.streams > 1);
  const never = new Breaking(0, grpc.status.RESOURCE_EXHAUSTED, refusal("RATE_LIMITED", { seconds: 60 }));
  const failed = importInto(never, 3, 1, { patienceMs: 30_000 });
  await assert.rejects(failed, { reason: ErrorReason.RATE_LIMITED, retryAfterMs: 60_000 });
  assert.equal(never.streams, 1);
});

test("patience ends", async () => {
  const away = new Breaking(0);
  await assert.rejects(importInto(away, 3, 1, { patienceMs: 300 }), { codeName: "UNAVAILABLE" });
  assert.ok(away.streams > 1);
  const refusing = new Breaking(0, grpc.status.FAILED_PRECONDITION);
  await assert.rejects(importInto(refusing, 3, 1), { codeName: "FAILED_PRECONDITION" });
  assert.equal(refusing.streams, 1);
});
