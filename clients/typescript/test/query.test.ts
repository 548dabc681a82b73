import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";

import {
  CatalogService, Client, CombinerService, EmbedderService, ErrorReason, FilterSchema, GeoPointSchema, PayloadSchema, SearchRequestSchema,
  SearchService, all, equal, fields, image, item, or, payload, range, turn,
} from "../src/index.js";
import type { ListValue, MatchAny, Plain } from "../src/index.js";
import { make } from "../src/requests.js";

test("fields come back as they went", () => {
  const place = create(GeoPointSchema, { latitude: 43.77, longitude: 11.25 });
  const all = {
    kind: "dress",
    sold: false,
    stock: 12,
    code: 9_007_199_254_740_993n,
    price: 49.95,
    since: new Date("2024-02-29T12:00:00Z"),
    sizes: ["s", "m"],
    brand: null,
    shop: place,
  };
  const made = create(PayloadSchema, payload(all));
  assert.deepEqual(fields(made), all);
  assert.equal(made.fields["stock"]?.kind.case, "integerValue");
});

test("a list of numbers is of floats where one of them is", () => {
  const of = (list: Plain): (string | undefined)[] => {
    const { value } = create(PayloadSchema, payload({ list })).fields["list"]!.kind;
    return (value as ListValue).values.map(({ kind }) => kind.case);
  };
  assert.deepEqual(of([38, 38.5, 39n]), ["floatValue", "floatValue", "floatValue"]);
  assert.deepEqual(of([38, 39n]), ["integerValue", "integerValue"]);
  assert.deepEqual(fields(create(PayloadSchema, payload({ list: [38, 38.5, 39] }))), { list: [38, 38.5, 39] });
});

test("what no field can hold is refused by name", () => {
  const refused: [unknown, string][] = [
    [undefined, "not undefined"],
    [{ b: 1 }, "not a plain object"],
    [{ lat: 1, lon: 2 }, "not a plain object"],
    [new Set(["a"]), "not a Set"],
    [Symbol("a"), "not a symbol"],
    [new Date("x"), "not an invalid Date"],
    [2n ** 63n, `payload field "a": ${2n ** 63n} does not fit 64 bits`],
    [["a", undefined], `payload field "a"[1] takes a string`],
    [["a", 1], `payload field "a": a list is of one type, but [0] is a string and [1] is a number`],
    [[0.5, 2n ** 60n + 1n], "[0] is a number and [1] is a bigint"],
    [[[1]], "a list holds neither lists nor null"],
    [[null], "a list holds neither lists nor null"],
  ];
  for (const [value, message] of refused) {
    assert.throws(() => payload({ a: value as Plain }), (error: Error) => {
      assert.ok(error instanceof TypeError && error.message.startsWith(`payload field "a"`), error.message);
      assert.ok(error.message.includes(message), error.message);
      return true;
    });
  }
  assert.throws(() => image("/path.jpg" as unknown as Uint8Array), /^TypeError: image takes the bytes .* not a string; imageFile/);
});

test("bounds are refused by name", () => {
  const bounds = (of: unknown) => () => range("d", of as { gt: number });
  assert.throws(bounds({ gte: new Date("x") }), { message: `range("d"): gte takes a number, a bigint or a Date, not an invalid Date` });
  assert.throws(bounds({ lt: undefined }), { message: `range("d"): lt takes a number, a bigint or a Date, not undefined` });
  assert.throws(bounds({ less: 5 }), { message: `range("d") has no bound "less"; its bounds are gt, gte, lt and lte` });
  const { value } = create(FilterSchema, all(equal("d", new Date(0), "2025-06-01"))).must[0]!.kind;
  assert.deepEqual((value as MatchAny).values.map(({ kind }) => kind.case), ["datetimeValue", "stringValue"]);
  assert.throws(() => equal("d", undefined as unknown as string), { message: /^equal\("d"\) takes a string, .* not undefined$/ });
  assert.throws(() => or(), { name: "TypeError", message: /^or takes one condition or more/ });
});

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

test("the package has every service, and the generated code for others", () => {
  assert.deepEqual(
    [SearchService, CatalogService, EmbedderService, CombinerService].map(({ name }) => name),
    ["SearchService", "CatalogService", "EmbedderService", "CombinerService"],
  );
  const { exports } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { exports: object };
  assert.deepEqual(Object.keys(exports), [".", "./gen/*", "./package.json"]);
});
