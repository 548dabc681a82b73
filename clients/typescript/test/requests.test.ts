import assert from "node:assert/strict";
import { test } from "node:test";

import { ScalarType, create, toBinary } from "@bufbuild/protobuf";
import type { DescField, DescMessage, MessageInitShape } from "@bufbuild/protobuf";

import {
  Client, ErrorReason, PayloadSchema, SearchRequestSchema, all, equal, file_cir_combiner_v1_combiner, file_cir_embedder_v1_embedder,
  file_cir_search_v1_catalog, file_cir_search_v1_search, item, payload, turn,
} from "../src/index.js";
import { make } from "../src/requests.js";

type Plain = Record<string, unknown>;

/** A value of every field of a message as a plain object, some levels deep; `objects` are those within it. */
function full(message: DescMessage, depth: number, objects: Plain[]): Plain {
  const one = (of: DescMessage): Plain => (depth > 0 ? full(of, depth - 1, objects) : {});
  const scalar = (type: ScalarType): unknown => {
    switch (type) {
      case ScalarType.STRING:
        return "a";
      case ScalarType.BYTES:
        return new Uint8Array(1);
      case ScalarType.BOOL:
        return true;
      case ScalarType.INT64:
      case ScalarType.UINT64:
        return 1n;
      default:
        return 1;
    }
  };
  const value = (field: DescField): unknown => {
    switch (field.fieldKind) {
      case "list":
        return [field.listKind === "message" ? one(field.message) : field.listKind === "enum" ? 0 : scalar(field.scalar)];
      case "map":
        return { a: field.mapKind === "message" ? one(field.message) : field.mapKind === "enum" ? 0 : scalar(field.scalar) };
      case "message":
        return one(field.message);
      case "enum":
        return 0;
      case "scalar":
        return scalar(field.scalar);
    }
  };
  const made: Plain = {};
  for (const member of message.members) {
    const last = member.kind === "oneof" ? member.fields.at(-1)! : undefined;
    made[member.localName] = last === undefined ? value(member as DescField) : { case: last.localName, value: value(last) };
  }
  objects.push(made);
  return made;
}

const files = [
  file_cir_combiner_v1_combiner, file_cir_embedder_v1_embedder, file_cir_search_v1_catalog, file_cir_search_v1_search,
];
for (const { input } of files.flatMap(({ services }) => services).flatMap(({ methods }) => methods)) {
  test(`every field of ${input.name} is taken, and nothing else`, () => {
    const objects: Plain[] = [];
    const request = full(input, 6, objects);
    assert.deepEqual(toBinary(input, make(input, request)), toBinary(input, create(input, request)));
    for (const object of objects) {
      object["surplus"] = 1;
      assert.throws(() => make(input, request), { name: "TypeError", message: /surplus is no field of (cir|google)\./ });
      delete object["surplus"];
    }
    make(input, request);
  });
}

/** A request that is refused before anything is sent. */
async function refuses(request: object, message: RegExp): Promise<void> {
  const client = new Client("localhost:1");
  try {
    await assert.rejects(client.search.search(request), { name: "TypeError", message });
    await assert.rejects(client.results(request).next(), { name: "TypeError", message });
    const batch = new RegExp(message.source.replace("^", "^requests\\[0\\]\\."));
    await assert.rejects(client.search.batchSearch({ requests: [request] }), { name: "TypeError", message: batch });
  } finally {
    client.close();
  }
}

test("what the contract has no place for is refused, not left out", async () => {
  await refuses({ filter: { label: "Shirt" } }, /^filter\.label is no field of cir\.search\.v1\.Filter; its fields are must, should, mustNot$/);
  await refuses({ foo: 1 }, /^foo is no field of cir\.search\.v1\.SearchRequest; its fields are parent, /);
  await refuses({ page_size: 1 }, /^page_size is no field of/);
  await refuses({ turns: [{ reference: { itemId: "a" } }] }, /^turns\[0\]\.reference\.itemId is written source: \{ case: "itemId", value: \.\.\. \}$/);
  await refuses({ turns: [{ reference: { source: { case: "url", value: "a" } } }] }, /^turns\[0\]\.reference\.source takes \{ case, value \} with one of/);
  await refuses({ turns: { text: "a" } }, /^turns takes an array, not a plain object$/);
  await refuses({ turns: [turn(undefined, 5 as unknown as string)] }, /^turns\[0\]\.text takes a string, not a number$/);
  await refuses({ filter: create(PayloadSchema, {}) }, /^filter takes a cir\.search\.v1\.Filter, not a cir\.common\.v1\.Payload$/);
});

test("options that there are not are refused", async () => {
  const misspelt: object = { timeoutMS: 5 };
  const message = 'there is no option "timeoutMS"; there are ';
  assert.throws(() => new Client("localhost:1", misspelt), { message: `${message}key, tls, timeoutMs, channel` });
  const client = new Client("localhost:1");
  await assert.rejects(client.search.search({}, misspelt), { message: `${message}timeoutMs, signal` });
  await assert.rejects(client.importItems("catalogs/a/versions/v0001", [], misspelt), { message: `${message}token, batchItems, patienceMs, onProgress, signal` });
  client.close();
});

test("what every message has is no unknown field", () => {
  const message = create(SearchRequestSchema, { parent: "catalogs/shop", turns: [turn(item("a"), "in blue")], filter: all(equal("a", 1)) });
  for (const init of [message, { ...message }, { parent: "catalogs/shop", turns: [{ reference: undefined }] }, {}]) {
    make(SearchRequestSchema, init as MessageInitShape<typeof SearchRequestSchema>);
  }
});

test("half a surrogate pair is refused where it stands", async () => {
  const client = new Client("localhost:1");
  const refused = { codeName: "INVALID_ARGUMENT", reason: ErrorReason.FIELD_INVALID };
  const field = "turns[0].text";
  await assert.rejects(client.search.search({ turns: [turn(undefined, "a\ud800")] }), { ...refused, field });
  const named = client.catalogs.batchUpsertItems({ items: [{ item: { id: "a", payload: payload({ "\udc00": 1 }) } }] });
  await assert.rejects(named, { ...refused, field: "items[0].item.payload.fields.\ufffd" });
  client.close();
});
