import assert from "node:assert/strict";
import { test } from "node:test";
import { ADDRESS, answer, happen, opened, settled } from "./opened.js";

const page = (query, ranks, tray = "") => `
  <div class="side"><ol class="steps"></ol><form class="box"><input name="x"></form><div class="tray">${tray}</div></div>
  <section id="answers" tabindex="-1"><ul data-more="more">${ranks.map(card).join("")}</ul></section>
  <form id="state" action="http://shop.example/try/go"><input type="hidden" name="q" value="${query}"></form>`;
const card = (id) => `<li class="card" id="${id}">
  <button form="state" name="like" value="${id}" data-judge aria-pressed="false"></button>
  <button form="state" name="dislike" value="${id}" data-judge aria-pressed="false"></button>
  <button form="state" name="hide" value="${id}" data-judge></button>
  <a href="http://shop.example/try/item?i=${id}" data-details>details</a></li>`;
const THUMB = `<div class="judged"><button name="like" value="a"></button></div>`;

const open = (fetch, body = page("c=shop&x0=hat", ["a", "b"])) => {
  const moved = [];
  const history = { state: null, replaceState: (state, _, url) => moved.push(url) };
  return { ...opened("answers.js", body, { fetch, history, URLSearchParams, AbortController }), moved };
};
const judge = async (document, name, id) => {
  const submitter = document.querySelector(`.card [name=${name}][value="${id}"]`);
  submitter.focus();
  const event = happen(document.getElementById("state"), "submit", { submitter });
  await settled();
  return event;
};

test("what is judged is sent with the conversation, and the answers come in place", async () => {
  const sent = [];
  const fetch = async (url, { method, body }) => {
    sent.push([url, method, body.toString()]);
    return answer(page("c=shop&x0=hat&l0=a", ["b", "a"], THUMB), { url: `${ADDRESS}&l0=a` });
  };
  const { document, moved, asked } = open(fetch);
  document.querySelector(".box input").value = "typed";
  const event = await judge(document, "like", "a");
  assert.equal(event.defaultPrevented, true);
  assert.deepEqual(sent, [["http://shop.example/try/go", "POST", "q=c%3Dshop%26x0%3Dhat&like=a"]]);
  assert.deepEqual(moved, [`${ADDRESS}&l0=a`]);
  assert.deepEqual([...document.querySelectorAll(".card")].map((one) => one.id), ["b", "a"]);
  assert.equal(document.querySelectorAll(".tray .judged").length, 1);
  assert.equal(document.querySelector("[name=q]").value, "c=shop&x0=hat&l0=a");
  assert.equal(document.querySelector(".box input").value, "typed");
  assert.deepEqual([document.activeElement.name, document.activeElement.value], ["like", "a"]);
  assert.deepEqual(asked, []);
});

test("two judgements in quick succession are both kept", async () => {
  const come = [];
  const sent = [];
  const fetch = (url, { body }) => {
    sent.push(body.get("q"));
    return new Promise((done) => come.push(done));
  };
  const { document } = open(fetch);
  await judge(document, "like", "a");
  await judge(document, "like", "b");
  come.shift()(answer(page("c=shop&x0=hat&l0=a", ["a", "b"], THUMB), { url: `${ADDRESS}&l0=a` }));
  await settled();
  await settled();
  // The second one goes with the conversation that the first one led to.
  assert.deepEqual(sent, ["c=shop&x0=hat", "c=shop&x0=hat&l0=a"]);
});

test("far down the list the card alone is marked", async () => {
  const { document } = open(async () => answer(page("c=shop&l0=b", ["z"], THUMB), { url: `${ADDRESS}&l0=b` }));
  document.querySelector("[data-more]").dataset.grown = "";
  await judge(document, "dislike", "b");
  assert.equal(document.querySelector("#b").className, "card disliked");
  await judge(document, "like", "b");
  assert.equal(document.querySelector("#b").className, "card liked");
  assert.equal(document.querySelector("#b [name=dislike]").getAttribute("aria-pressed"), "false");
  await judge(document, "hide", "a");
  assert.deepEqual([...document.querySelectorAll(".card")].map((one) => one.id), ["b"]);
  assert.equal(document.querySelector("[name=q]").value, "c=shop&l0=b");
});

for (const [how, fetch, expected] of [
  ["no network", async () => { throw new TypeError("no network"); }, ["reload"]],
  ["a service that is away", async () => answer("<p>away</p>", { status: 503, url: `${ADDRESS}&l0=a` }), ["assign", `${ADDRESS}&l0=a`]],
  ["a refusal of the form", async () => answer("<p>no</p>", { status: 403, url: "http://shop.example/try/go" }), ["assign", ADDRESS]],
  ["another page", async () => answer("<p>sign in</p>", { url: "http://shop.example/login" }), ["assign", "http://shop.example/login"]],
]) {
  test(`after ${how} the page that says so is shown`, async () => {
    const { document, asked, moved } = open(fetch);
    await judge(document, "like", "a");
    assert.deepEqual(asked, [expected]);
    assert.deepEqual(moved, []);
  });
}

test("where there are no results the form is sent as it is", async () => {
  const body = `<main>${card("a")}<form id="state" action="go"><input type="hidden" name="q"></form></main>`;
  const { document, window } = open(async () => assert.fail("nothing is fetched"), body);
  const event = happen(document.getElementById("state"), "submit", { submitter: document.querySelector("[name=like]") });
  assert.equal(event.defaultPrevented, false);
  const other = happen(document.getElementById("state"), "submit", { submitter: null });
  assert.equal(other.defaultPrevented, false);
  assert.ok(window);
});

const ITEM = `<article class="item"><h1>A hat</h1><a href="./" data-close>Back</a></article>`;
const look = async (window, document, held = {}) => {
  window.HTMLDialogElement.prototype.showModal = function () { this.open = true; };
  window.HTMLDialogElement.prototype.close = function () { this.open = false; };
  const event = happen(document.querySelector("[data-details]"), "click", { button: 0, ...held });
  await settled();
  return event;
};

test("details open over the results, and are closed by their way back", async () => {
  const { document, window, asked } = open(async () => answer(ITEM));
  const event = await look(window, document);
  assert.equal(event.defaultPrevented, true);
  const dialog = document.querySelector("dialog");
  assert.equal(dialog.open, true);
  assert.equal(document.getElementById(dialog.getAttribute("aria-labelledby")).textContent, "A hat");
  const back = happen(document.querySelector("[data-close]"), "click");
  assert.equal(back.defaultPrevented, true);
  assert.equal(dialog.open, false);
  assert.deepEqual(asked, []);
});

test("a click that opens a tab is the browser's", async () => {
  for (const held of [{ ctrlKey: true }, { metaKey: true }, { shiftKey: true }, { button: 1 }]) {
    const { document, window } = open(async () => assert.fail("nothing is fetched"));
    assert.equal((await look(window, document, held)).defaultPrevented, false);
  }
});

for (const [how, fetch] of [
  ["no network", async () => { throw new TypeError("no network"); }],
  ["an item that is gone", async () => answer("<section class=problem></section>", { status: 404 })],
]) {
  test(`details lead to their page after ${how}`, async () => {
    const { document, window, asked } = open(fetch);
    await look(window, document);
    assert.deepEqual(asked, [["assign", "http://shop.example/try/item?i=a"]]);
    assert.notEqual(document.querySelector("dialog").open, true);
  });
}
