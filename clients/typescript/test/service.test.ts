/** Against the search service that `make test-clients` has started: catalog "shop" holds drawn garments. */

import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";

import {
  CirError, Client, ErrorReason, FieldType, TurnKind, all, catalogName, equal, fields, imageFile, item, not, payload, range, turn,
} from "../src/index.js";

const address = process.env["CIR_TEST_SERVER"] ?? "";
const images = process.env["CIR_TEST_IMAGES"] ?? "";
const skip = address === "" ? "no service: CIR_TEST_SERVER is not set; make test-clients starts one" : false;
const catalog = catalogName("shop");
const client = new Client(address || "localhost:1");
after(() => client.close());

test("two turns with a filter", { skip }, async () => {
  const answer = await client.search.search({
    parent: catalog,
    turns: [turn(await imageFile(join(images, "red-dress.jpg")), "in blue"), turn(undefined, "in green")],
    filter: all(equal("kind", "dress"), range("price", { lt: 50 }), not(equal("colour", "red"))),
  });
  assert.deepEqual(answer.results.map((result) => result.item?.id), ["green-dress", "blue-dress"]);
  assert.deepEqual(answer.results.map((result) => fields(result.item?.payload)["price"]), [40, 30]);
  assert.deepEqual(answer.explanation?.turns.map(({ kind }) => kind), [TurnKind.COMPOSED, TurnKind.CONTINUED]);
});

test("items page by page", { skip }, async () => {
  const ids: string[] = [];
  for await (const { id } of client.items({ parent: catalog, pageSize: 3, filter: all(equal("kind", "dress")) })) {
    ids.push(id);
  }
  assert.deepEqual(ids.sort(), ["black-dress", "blue-dress", "green-dress", "red-dress", "yellow-dress"]);
});

test("refusals name reason and field", { skip }, async () => {
  const turns = [turn(undefined, "a dress")];
  await assert.rejects(client.search.search({ parent: catalogName("missing"), turns }), {
    codeName: "NOT_FOUND",
    reason: ErrorReason.CATALOG_NOT_FOUND,
  });
  await assert.rejects(client.search.search({ parent: catalog, turns, pageSize: -1 }), (error: CirError) => {
    assert.deepEqual([error.codeName, error.reasonName, error.field], ["INVALID_ARGUMENT", "OUT_OF_RANGE", "page_size"]);
    assert.notEqual(error.requestId, "");
    return true;
  });
});

test("an item written by the client is found", { skip }, async () => {
  const content = await readFile(join(images, "red-dress.jpg"));
  const id = "written by TypeScript";
  const written = await client.catalogs.batchUpsertItems({
    parent: catalog,
    items: [{ item: { id, payload: payload({ kind: id, price: 7 }) }, content }],
  });
  assert.deepEqual([written.written, written.errors], [1, []]);
  const ids: (string | undefined)[] = [];
  const query = { parent: catalog, turns: [turn(item(id))], filter: all(equal("kind", id)), excludeReferences: false };
  for await (const result of client.results(query)) ids.push(result.item?.id);
  assert.deepEqual(ids, [id]);
});

/** The drawn images as items, from the first on; after `until` of them the source fails. */
async function* garments(until = Infinity) {
  const names = (await readdir(images)).filter((name) => name.endsWith(".jpg")).sort();
  for (const [number, id] of names.entries()) {
    if (number === until) throw new Error("the source is gone");
    const content = number === 3 ? Buffer.from("no image") : await readFile(join(images, id));
    yield { item: { id, payload: payload({ number }) }, content };
  }
}

test("a catalog is made from nothing", { skip }, async () => {
  const request = { catalogId: "made-by-ts", schema: { number: FieldType.INTEGER } };
  await client.catalogs.createCatalog(request);
  await assert.rejects(client.catalogs.createCatalog(request), { codeName: "ALREADY_EXISTS", reason: ErrorReason.CATALOG_EXISTS });
  const made = catalogName("made-by-ts");
  const { name } = await client.catalogs.createCatalogVersion({ parent: made });
  // A program that breaks off, and one that goes on.
  const options = { token: "one", batchItems: 2 };
  await assert.rejects(client.importItems(name, garments(6), options), /the source is gone/);
  let answers = 0;
  const done = await client.importItems(name, garments(), { ...options, onProgress: () => (answers += 1) });
  assert.deepEqual([done.done, done.written, done.rejected], [15n, 14n, 1n]);
  assert.deepEqual(done.errors.map(({ index, reason }) => [index, reason]), [[3, ErrorReason.IMAGE_UNREADABLE]]);
  assert.ok(answers > 0);
  await client.catalogs.finishCatalogVersion({ name, expectedItemCount: 14n });
  await client.catalogs.publishCatalogVersion({ name });
  const turns = [turn(undefined, "a dress")];
  const { outcomes } = await client.search.batchSearch({
    requests: [
      { parent: made, turns, filter: all(range("number", { gte: 5 })) },
      { parent: catalogName("missing"), turns },
    ],
  });
  const [first, second] = outcomes.map(({ outcome }) => outcome);
  assert.equal(first?.case === "response" && first.value.results.length, 10);
  assert.equal(second?.case === "error" && second.value.reason, ErrorReason.CATALOG_NOT_FOUND);
  await assert.rejects(client.importItems(name, garments()), { reason: ErrorReason.VERSION_STATE });
});
