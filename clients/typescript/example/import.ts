// Makes the catalog "shop" of two items; a run that broke off goes on where it was, by version and token.
import { readFile } from "node:fs/promises";

import { Client, ErrorReason, FieldType, catalogName, payload } from "composed-image-retrieval-client";
import type { ItemWriteInit } from "composed-image-retrieval-client";

async function* items(): AsyncGenerator<ItemWriteInit> {
  for (const id of ["a-1", "a-2"]) {
    yield { item: { id, payload: payload({ price: 49.95, sizes: [38, 38.5] }) }, content: await readFile(`images/${id}.jpg`) };
  }
}

const client = new Client("localhost:50050", { key: process.env["CIR_API_KEY"] ?? "" });
try {
  await client.catalogs.createCatalog({ catalogId: "shop", schema: { price: FieldType.FLOAT, sizes: FieldType.FLOAT } });
  const { name } = await client.catalogs.createCatalogVersion({ parent: catalogName("shop") });
  const done = await client.importItems(name, items(), { token: "night-of-the-4th", signal: AbortSignal.timeout(3_600_000) });
  for (const { index, itemId, reason, message } of done.errors) {
    console.error(`${index} ${itemId}: ${ErrorReason[reason]}: ${message}`);
  }
  // Building the indexes of a large catalog takes longer than other calls may.
  await client.catalogs.finishCatalogVersion({ name, expectedItemCount: done.written }, { timeoutMs: 3_600_000 });
  await client.catalogs.publishCatalogVersion({ name });
} finally {
  client.close();
}
