import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { GeoPointSchema, PayloadSchema, fields, payload } from "../src/index.js";

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

test("what no field can hold is refused", () => {
  const missing = undefined as unknown as string;
  assert.throws(() => payload({ kind: missing }), { message: "no payload value can be made of undefined" });
});
