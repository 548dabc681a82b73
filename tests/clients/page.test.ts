// gRPC-Web as a page speaks it: Connect's client for browsers over the generated code, against the gateway.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { CatalogService } from "../src/gen/cir/search/v1/catalog_pb.js";
import { SearchService } from "../src/gen/cir/search/v1/search_pb.js";

const transport = createGrpcWebTransport({ baseUrl: process.env["CIR_TEST_HTTP"] ?? "" });

test("a page searches and reads", async () => {
  const search = createClient(SearchService, transport);
  const answer = await search.search({ parent: "catalogs/shop", turns: [{ text: "a red dress" }], pageSize: 3 });
  assert.equal(answer.results.length, 3);
  const catalog = await createClient(CatalogService, transport).getCatalog({ name: "catalogs/shop" });
  // Other tests write items of their own.
  assert.ok((catalog.published?.itemCount ?? 0n) >= 15n);
});

test("a refusal has its code, its words and its reason", async () => {
  const search = createClient(SearchService, transport);
  await assert.rejects(search.search({ parent: "catalogs/none", turns: [{ text: "a" }] }), (error) => {
    assert.ok(error instanceof ConnectError);
    assert.equal(error.code, Code.NotFound);
    assert.match(error.rawMessage, /none/);
    assert.ok(error.details.length > 0);
    return true;
  });
});

test("a deadline is the call's", async () => {
  const search = createClient(SearchService, transport);
  const asked = search.search({ parent: "catalogs/shop", turns: [{ text: "a hat" }] }, { timeoutMs: 1 });
  await assert.rejects(asked, (error) => error instanceof ConnectError && error.code === Code.DeadlineExceeded);
});
