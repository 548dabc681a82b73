import assert from "node:assert/strict";
import { after, test } from "node:test";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";

import { Client, ImportItemsRequestSchema, ImportItemsResponseSchema, versionName } from "../src/index.js";
import type { ImportItemsRequest, ImportItemsResponse, ImportOptions } from "../src/index.js";

const ends: (() => void)[] = [];
after(() => ends.forEach((end) => end()));

/**
 * A catalog service that writes items down, and whose streams break after `life` messages. The last of them is written,
 * but not answered.
 */
class Breaking {
  streams = 0;
  written: string[] = [];
  sizes: number[] = [];

  constructor(readonly life: number, readonly code = grpc.status.UNAVAILABLE) {}

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
      this.written.push(...items.slice(this.written.length - Number(firstIndex)).map(({ item }) => item?.id ?? ""));
      if (left === 0) {
        call.emit("error", { code: this.code, details: "the end" });
      } else {
        const done = BigInt(this.written.length);
        const lastItemId = this.written.at(-1) ?? "";
        call.write(create(ImportItemsResponseSchema, { nextIndex: done, written: done, lastItemId }));
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

test("messages stay small", async () => {
  const service = new Breaking(100);
  await importInto(service, 7, 3 * 2 ** 19);
  assert.deepEqual(service.sizes, [2, 2, 2, 1]);
  assert.deepEqual(service.written, ids(7));
});

test("patience ends", async () => {
  const away = new Breaking(0);
  await assert.rejects(importInto(away, 3, 1, { patienceMs: 300 }), { codeName: "UNAVAILABLE" });
  assert.ok(away.streams > 1);
  const refusing = new Breaking(0, grpc.status.FAILED_PRECONDITION);
  await assert.rejects(importInto(refusing, 3, 1), { codeName: "FAILED_PRECONDITION" });
  assert.equal(refusing.streams, 1);
});
