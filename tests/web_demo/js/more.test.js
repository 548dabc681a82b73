import assert from "node:assert/strict";
import { test } from "node:test";
import { answer, happen, opened, settled } from "./opened.js";

const card = (rank) => `<li class="card" id="r${rank}"></li>`;
const next = (token) => `<li class="next" data-token="${token}"><button hidden>More results</button></li>`;
const LIST = `<section><p data-shown="{number} results">1 results</p>
  <ul data-more="more?c=shop">${card(1)}${next("a/b")}</ul></section>`;

/** Open a list of results; `fetch` answers what is asked for, `seen` scrolls to what is watched. */
const open = (fetch, { body = LIST, state = null } = {}) => {
  const watched = new Set();
  let tell;
  class IntersectionObserver {
    constructor(told) {
      tell = told;
    }
    observe(element) {
      watched.add(element);
    }
    unobserve(element) {
      watched.delete(element);
    }
  }
  const calls = [];
  const asking = (url) => {
    calls.push(url);
    return fetch(url, calls.length);
  };
  const history = { state, replaceState: (kept) => (history.state = kept) };
  const page = opened("more.js", body, { fetch: asking, IntersectionObserver, history, scrollY: 700 });
  const seen = async () => {
    tell([...watched].map((target) => ({ isIntersecting: true, target })));
    await settled();
  };
  return { ...page, calls, watched, seen, history };
};
const button = (document) => document.querySelector(".next button");

test("more results come when their end is seen, and are counted", async () => {
  const { document, calls, seen, watched } = open(async () => answer(card(2) + card(3) + next("c")));
  await seen();
  assert.deepEqual(calls, ["more?c=shop&token=a%2Fb"]);
  assert.equal(document.querySelectorAll(".card").length, 3);
  assert.equal(document.querySelector("[data-shown]").textContent, "3 results");
  assert.deepEqual([...watched], [document.querySelector(".next")]);
  assert.equal(button(document).hidden, true);
});

for (const [how, fetch] of [
  ["a refusal", async () => answer("<p>busy</p>", { status: 503 })],
  ["no network", async () => { throw new TypeError("no network"); }],
]) {
  test(`after ${how} a button tries again, and scrolling goes on`, async () => {
    const { document, calls, seen, watched } = open((url, call) => (call === 1 ? fetch() : Promise.resolve(answer(card(2) + next("c")))));
    await seen();
    assert.equal(document.querySelectorAll(".card").length, 1);
    assert.equal(button(document).hidden, false);
    assert.equal(button(document).disabled, false);
    happen(button(document), "click");
    assert.equal(button(document).disabled, true); // not twice
    await settled();
    assert.equal(calls.length, 2);
    assert.equal(document.querySelectorAll(".card").length, 2);
    assert.equal(watched.has(document.querySelector(".next")), true);
  });
}

test("the last page of results ends the list", async () => {
  const { document, seen, watched } = open(async () => answer(card(2)));
  await seen();
  assert.equal(document.querySelector(".next"), null);
  assert.equal(watched.size, 0);
});

test("results that were replaced meanwhile get no older ones", async () => {
  let come;
  const { document, seen, window } = open(() => new Promise((done) => (come = done)));
  await seen();
  document.querySelector("[data-more]").innerHTML = card(9) + next("new");
  happen(window, "answers");
  come(answer(card(2)));
  await settled();
  assert.equal(document.querySelectorAll(".card").length, 1);
  assert.equal(document.querySelector(".card").id, "r9");
});

test("back leads to as many results as there were, and to the place", async () => {
  const { document, asked } = open(async (url, call) => answer(card(call + 1) + next("t")), { state: { shown: 3, place: 420 } });
  for (let wait = 0; wait < 5; wait++) await settled();
  assert.equal(document.querySelectorAll(".card").length, 3);
  assert.deepEqual(asked, [["scroll", 420]]);
});

test("back does not ask for ever where more cannot be had", async () => {
  const { calls, asked, document } = open(async () => answer("", { status: 503 }), { state: { shown: 300, place: 420 } });
  for (let wait = 0; wait < 5; wait++) await settled();
  assert.equal(calls.length, 1);
  assert.deepEqual(asked, [["scroll", 420]]);
  assert.equal(button(document).hidden, false);
});

test("the place is kept on leaving where the list has grown, and what else was kept stays", async () => {
  const { history, seen, window } = open(async () => answer(card(2)), { state: { other: 1 } });
  happen(window, "pagehide");
  assert.deepEqual({ ...history.state }, { other: 1 });
  await seen();
  happen(window, "pagehide");
  assert.deepEqual({ ...history.state }, { other: 1, shown: 2, place: 700 });
});
