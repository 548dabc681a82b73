import assert from "node:assert/strict";
import { test } from "node:test";
import { ADDRESS, answer, happen, opened, settled } from "./opened.js";

const LINKS = `<main><a id="own" href="./?x0=a">a</a><a id="tab" href="./?x0=a" target="_blank">b</a></main>`;
const busy = (document) => document.body.classList.contains("busy");

test("a page that is left is dimmed, one that stays is not", () => {
  const { document, window } = opened("page.js", LINKS);
  for (const [id, held] of [["tab", {}], ["own", { ctrlKey: true }], ["own", { metaKey: true }], ["own", { shiftKey: true }]]) {
    happen(document.getElementById(id), "click", held);
    assert.equal(busy(document), false, `${id} ${JSON.stringify(held)}`);
  }
  happen(document.getElementById("own"), "click");
  assert.equal(busy(document), true);
  happen(window, "pageshow");
  assert.equal(busy(document), false);
});

test("what was prevented leaves nowhere", () => {
  const { document } = opened("page.js", `${LINKS}<form></form>`);
  for (const [selector, type] of [["#own", "click"], ["form", "submit"]]) {
    const target = document.querySelector(selector);
    target.addEventListener(type, (event) => event.preventDefault());
    happen(target, type);
    assert.equal(busy(document), false, type);
  }
});

const SHARE = `<button data-share data-shared="Copied">Copy link</button>`;
const press = async (document, selector) => {
  happen(document.querySelector(selector), "click");
  await settled();
};

test("the link is copied by the clipboard where there is one", async () => {
  const copied = [];
  const { document } = opened("page.js", SHARE, { navigator: { clipboard: { writeText: async (text) => copied.push(text) } } });
  await press(document, "[data-share]");
  assert.deepEqual(copied, [ADDRESS]);
  assert.equal(document.querySelector("[data-share]").textContent, "Copied");
});

test("without a clipboard, as over plain http, the link is copied by a selection", async () => {
  const { document, asked } = opened("page.js", SHARE, { navigator: {} });
  let selected = "";
  document.execCommand = (command) => {
    selected = document.querySelector("textarea").value;
    return command === "copy";
  };
  await press(document, "[data-share]");
  assert.equal(selected, ADDRESS);
  assert.equal(document.querySelector("textarea"), null);
  assert.equal(document.querySelector("[data-share]").textContent, "Copied");
  assert.deepEqual(asked, []);
});

test("a link that cannot be copied is shown, to be copied by hand", async () => {
  const refusing = { clipboard: { writeText: async () => { throw new Error("not allowed"); } } };
  for (const navigator of [{}, refusing]) {
    const { document, asked } = opened("page.js", SHARE, { navigator });
    document.execCommand = () => false;
    await press(document, "[data-share]");
    assert.deepEqual(asked, [["prompt", "Copy link", ADDRESS]]);
    assert.equal(document.querySelector("textarea"), null);
    assert.equal(document.querySelector("[data-share]").textContent, "Copy link");
  }
});

test("a service that is away is asked for until it is back", async () => {
  const answers = [() => { throw new TypeError("away"); }, () => answer("", { status: 503 }), () => answer("")];
  const fetch = async () => answers.shift()();
  const { asked, timers } = opened("page.js", `<section data-retry="3"></section>`, { fetch });
  for (const left of [2, 1, 0]) {
    assert.deepEqual(asked, []);
    assert.equal(timers.length, 1);
    timers.shift()();
    await settled();
    assert.equal(answers.length, left);
  }
  assert.deepEqual(asked, [["reload"]]);
  assert.equal(timers.length, 0);
});

test("a menu leads elsewhere by pointer at once, by key through its button", () => {
  const { document, window } = opened("page.js", `<form><select data-submit></select><button class="no-js"></button></form>`);
  const sent = [];
  window.HTMLFormElement.prototype.requestSubmit = () => sent.push(1);
  const menu = document.querySelector("select");
  happen(menu, "keydown");
  happen(menu, "change");
  assert.equal(sent.length, 0);
  assert.equal(document.querySelector("button").className, "");
  happen(menu, "pointerdown");
  happen(menu, "change");
  assert.equal(sent.length, 1);
});

test("the box for another text takes the focus and gives it back", () => {
  const { document } = opened("page.js", `<details class="edit" open><summary></summary><input name="text" value="hat"></details>`);
  const box = document.querySelector("details");
  happen(box, "toggle", {}, { bubbles: false });
  assert.equal(document.activeElement.name, "text");
  happen(document.querySelector("input"), "keydown", { key: "a" });
  assert.equal(box.open, true);
  happen(document.querySelector("input"), "keydown", { key: "Escape" });
  assert.equal(box.open, false);
  assert.equal(document.activeElement.localName, "summary");
});
