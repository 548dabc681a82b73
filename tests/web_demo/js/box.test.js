import assert from "node:assert/strict";
import { test } from "node:test";
import { happen, opened, settled } from "./opened.js";

const BOX = `<form class="box" data-box data-max-bytes="2000000" data-too-large="too large" data-no-picture="no picture">
  <span class="chosen" hidden><img><button type="button" data-crop></button><button type="button" data-unchoose></button></span>
  <input name="x"><input type="file" name="picture"><p class="trouble" hidden></p>
  <dialog class="cropper"><canvas></canvas><button type="button" data-done></button><button type="button" data-cancel></button></dialog>
</form>`;

/** A file of so many bytes, of which jsdom needs to hold none. */
const file = (window, size, type = "image/jpeg", name = "a.jpg") => {
  const made = new window.File(["x"], name, { type });
  Object.defineProperty(made, "size", { value: size });
  return made;
};

/** Open the box; pictures are as large as `bitmap` says (null: no browser reads them), and are shrunk to `blob` bytes. */
const open = ({ bitmap = { width: 4000, height: 2000 }, blob = 200_000 } = {}) => {
  const painted = [];
  const given = {
    createImageBitmap: async () => {
      if (!bitmap) throw new Error("not read");
      return bitmap;
    },
    DataTransfer: class {
      files = [];
      items = { add: (one) => this.files.push(one) };
    },
    URL: { createObjectURL: () => "blob:shown", revokeObjectURL: () => {} },
  };
  let window;
  // jsdom has no canvas: one that notes what is painted.
  const prepare = (made) => {
    window = made;
    window.HTMLCanvasElement.prototype.getContext = () => ({
      fillRect() {}, beginPath() {}, rect() {}, fill() {}, drawImage: (_, ...place) => painted.push(place),
    });
    window.HTMLCanvasElement.prototype.toBlob = (done) => done(blob === null ? null : new window.Blob([new Uint8Array(blob)]));
  };
  const page = opened("box.js", BOX, given);
  prepare(page.window);
  const form = page.document.querySelector("form");
  const input = form.querySelector("[name=picture]");
  Object.defineProperty(input, "files", { value: [], writable: true });
  const sent = [];
  form.requestSubmit = () => sent.push([...input.files].map((one) => one.name));
  const choose = async (one) => {
    input.files = [one];
    happen(input, "change");
    await settled();
    await settled();
  };
  return { ...page, form, input, painted, sent, choose, words: form.querySelector("[name=x]"),
    chosen: form.querySelector(".chosen"), trouble: form.querySelector(".trouble") };
};

test("a large picture is made small before it is sent", async () => {
  const { choose, chosen, input, painted, trouble, window } = open();
  await choose(file(window, 19_000_000));
  assert.deepEqual(painted, [[0, 0, 4000, 2000, 0, 0, 1024, 512]]);
  assert.equal(input.files[0].name, "picture.jpg");
  assert.equal(chosen.hidden, false);
  assert.equal(trouble.hidden, true);
});

test("a small one is sent as it is", async () => {
  const { choose, input, painted, window } = open({ bitmap: { width: 640, height: 480 } });
  await choose(file(window, 90_000));
  assert.deepEqual(painted, []);
  assert.equal(input.files[0].name, "a.jpg");
});

test("what is too large and cannot be made small is said at once, and not sent", async () => {
  for (const given of [{ bitmap: null }, { blob: null }, { blob: 2_000_001 }]) {
    const { choose, chosen, input, trouble, window } = open(given);
    await choose(file(window, 25_000_000));
    assert.equal(trouble.textContent, "too large");
    assert.equal(trouble.hidden, false);
    assert.equal(chosen.hidden, true);
    assert.equal(input.value, "");
  }
});

test("one that this browser does not read is left to the server", async () => {
  const { choose, input, trouble, window } = open({ bitmap: null });
  await choose(file(window, 900_000, "image/heic", "a.heic"));
  assert.equal(input.files[0].name, "a.heic");
  assert.equal(trouble.hidden, true);
});

test("what is no picture is said, and a picture after it takes that back", async () => {
  const { choose, chosen, trouble, window } = open();
  await choose(file(window, 10, "text/plain", "a.txt"));
  assert.equal(trouble.textContent, "no picture");
  assert.equal(chosen.hidden, true);
  await choose(file(window, 500_000));
  assert.equal(trouble.hidden, true);
  assert.equal(chosen.hidden, false);
});

test("a file that was refused is not sent, and one that was dropped leaves the picture before it", async () => {
  const { choose, chosen, input, trouble, window } = open();
  await choose(file(window, 10, "text/plain", "a.txt"));
  assert.equal(input.value, "");
  Object.defineProperty(input, "value", { set: () => (input.files = []), configurable: true });
  await choose(file(window, 500_000));
  happen(window, "drop", { dataTransfer: { types: ["Files"], files: [file(window, 10, "text/plain", "a.txt")] } });
  assert.equal(trouble.textContent, "no picture");
  assert.equal(chosen.hidden, false);
  assert.equal(input.files[0].name, "picture.jpg");
  await choose(file(window, 10, "text/plain", "a.txt"));
  assert.equal(chosen.hidden, true);
  assert.deepEqual([...input.files], []);
});

test("nothing asked for is nothing sent", () => {
  const { document, form, words } = open();
  words.value = "  ";
  assert.equal(happen(form, "submit").defaultPrevented, true);
  assert.equal(document.activeElement, words);
  words.value = "hat";
  assert.equal(happen(form, "submit").defaultPrevented, false);
});

test("what is sent while a picture is prepared waits for it", async () => {
  const { choose, form, input, sent, window, trouble } = open();
  const preparing = choose(file(window, 19_000_000));
  assert.equal(happen(form, "submit").defaultPrevented, true);
  await preparing;
  assert.deepEqual(sent, [["picture.jpg"]]);
  assert.equal(trouble.hidden, true);
  assert.equal(input.files.length, 1);
});

test("and is not sent where it turns out too large", async () => {
  const { choose, form, sent, trouble, window } = open({ blob: 2_000_001 });
  const preparing = choose(file(window, 25_000_000));
  happen(form, "submit");
  await preparing;
  assert.deepEqual(sent, []);
  assert.equal(trouble.textContent, "too large");
});

test("files are dropped and pasted, words are the browser's", async () => {
  const { chosen, document, sent, window } = open();
  const words = { types: ["text/plain"], files: [] };
  assert.equal(happen(window, "drop", { dataTransfer: words }).defaultPrevented, false);
  assert.equal(happen(window, "dragover", { dataTransfer: words }).defaultPrevented, false);
  happen(window, "paste", { clipboardData: { files: [] } });
  await settled();
  assert.equal(chosen.hidden, true);
  const picture = { types: ["Files"], files: [file(window, 500_000)] };
  happen(window, "dragover", { dataTransfer: picture });
  assert.equal(document.body.className, "dropping");
  happen(window, "dragleave", { relatedTarget: document.body }); // over another part of the page
  assert.equal(document.body.className, "dropping");
  happen(window, "dragleave", { relatedTarget: null });
  assert.equal(document.body.className, "");
  assert.equal(happen(window, "drop", { dataTransfer: picture }).defaultPrevented, true);
  await settled();
  await settled();
  assert.equal(chosen.hidden, false);
  assert.deepEqual(sent, []); // it waits for words, and for being sent
});

test("a picture that is taken away is not sent", async () => {
  const { choose, chosen, form, input, window } = open();
  await choose(file(window, 500_000));
  happen(form.querySelector("[data-unchoose]"), "click");
  assert.equal(chosen.hidden, true);
  assert.equal(input.value, "");
});

test("a picture that this browser does not read cannot be cut, and that is said", async () => {
  const { choose, form, trouble, window } = open({ bitmap: null });
  await choose(file(window, 900_000));
  happen(form.querySelector("[data-crop]"), "click");
  await settled();
  assert.equal(trouble.textContent, "no picture");
});
