import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import {
  CatalogService, CombinerService, EmbedderService, FilterSchema, GeoPointSchema, PayloadSchema, SearchService, all, equal,
  fields, image, or, payload, range,
} from "../src/index.js";
import type { ListValue, MatchAny, Plain } from "../src/index.js";

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

test("the package has every service, and the generated code for others", () => {
  assert.deepEqual(
    [SearchService, CatalogService, EmbedderService, CombinerService].map(({ name }) => name),
    ["SearchService", "CatalogService", "EmbedderService", "CombinerService"],
  );
  const { exports } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { exports: object };
  assert.deepEqual(Object.keys(exports), [".", "./gen/*", "./package.json"]);
});
