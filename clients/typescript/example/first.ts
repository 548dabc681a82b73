// Finds garments like the one on an image, first in blue, then with stripes, that cost less than 80.
import { CirError, Client, all, catalogName, equal, fields, imageFile, range, turn } from "composed-image-retrieval-client";

const client = new Client("localhost:50050", { key: process.env["CIR_API_KEY"] ?? "" });
try {
  const answer = await client.search.search({
    parent: catalogName("shop"),
    turns: [turn(await imageFile("dress.jpg"), "in blue"), turn(undefined, "with stripes")],
    filter: all(equal("kind", "dress"), range("price", { lt: 80 })),
    pageSize: 5,
  });
  for (const { rank, item } of answer.results) {
    console.log(rank, item?.id, fields(item?.payload)["price"]);
  }
} catch (error) {
  if (!(error instanceof CirError)) throw error;
  console.error(`${error.codeName} (${error.reasonName} ${error.field}): ${error.message}`);
  process.exitCode = 1;
} finally {
  client.close();
}
