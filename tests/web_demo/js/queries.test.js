import assert from "node:assert/strict";
import { test } from "node:test";
import { happen, opened } from "./opened.js";

const page = (query, ranks) => `<nav data-query="${query}" data-catalog="shop">
  <div class="session" hidden><table><thead><tr><th>Method</th><th>Queries</th></tr></thead><tbody></tbody></table>
  <button type="button">Begin anew</button></div></nav>
  ${Object.entries(ranks).map(([by, rank]) => `<p data-by="${by}" data-rank="${rank}"></p>`).join("")}`;

const storage = (kept = {}) => ({ kept, getItem: (key) => kept[key] ?? null, setItem: (key, text) => (kept[key] = text) });
const rows = (document) => [...document.querySelectorAll("tbody tr")].map((row) => [...row.children].map((one) => one.textContent));

test("recall is of all queries that were asked, each once, by method", () => {
  const sessionStorage = storage();
  let document;
  for (const [query, ranks] of [["a red", { sum: 1, slerp: 7 }], ["b blue", { sum: 0 }], ["c long", { sum: 50 }], ["a red", { sum: 5 }]]) {
    ({ document } = opened("queries.js", page(query, ranks), { sessionStorage }));
  }
  assert.deepEqual(rows(document), [
    ["sum", "3", "0 %", "33 %", "33 %", "67 %"],
    ["slerp", "1", "0 %", "0 %", "100 %", "100 %"],
  ]);
  assert.equal(document.querySelector(".session").hidden, false);
  assert.deepEqual([...document.querySelectorAll("thead th")].map((one) => one.textContent).slice(2), ["R@1", "R@5", "R@10", "R@50"]);
});

test("a query that was changed counts for nothing, and what was counted stays shown", () => {
  const sessionStorage = storage({ "ranks shop": JSON.stringify({ sum: { "a red": 2 } }) });
  const { document, window } = opened("queries.js", page("", { sum: 1 }), { sessionStorage });
  assert.deepEqual(rows(document), [["sum", "1", "0 %", "100 %", "100 %", "100 %"]]);
  happen(window, "answers"); // results were replaced in place
  assert.equal(document.querySelectorAll("thead th").length, 6);
});

test("counting begins anew", () => {
  const sessionStorage = storage();
  const { document } = opened("queries.js", page("a red", { sum: 1 }), { sessionStorage });
  happen(document.querySelector("button"), "click");
  assert.deepEqual(rows(document), []);
  assert.equal(document.querySelector(".session").hidden, true);
  assert.equal(sessionStorage.kept["ranks shop"], "{}");
});

test("a browser that keeps nothing shows this query, and what is kept and is no ranks is left", () => {
  const refusing = { getItem: () => { throw new Error("denied"); }, setItem: () => { throw new Error("full"); } };
  for (const sessionStorage of [refusing, storage({ "ranks shop": "{no json" })]) {
    const { document } = opened("queries.js", page("a red", { sum: 1 }), { sessionStorage });
    assert.deepEqual(rows(document), [["sum", "1", "100 %", "100 %", "100 %", "100 %"]]);
  }
});

test("other results have none of it", () => {
  const { document } = opened("queries.js", `<main></main>`, { sessionStorage: storage() });
  assert.deepEqual(rows(document), []);
});
