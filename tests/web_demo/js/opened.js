// A page of jsdom with one module of web_demo/static run in it.
import { readFileSync } from "node:fs";
import { JSDOM } from "jsdom";

const STATIC = new URL("../../../web_demo/static/", import.meta.url);
export const ADDRESS = "http://shop.example/try/?c=shop&x0=hat";

/** An answer to a fetch. */
export const answer = (text, { status = 200, url = ADDRESS } = {}) =>
  ({ ok: status < 300, status, url, text: async () => text });

/** Let everything that waits for nothing but promises go on. */
export const settled = () => new Promise((done) => setImmediate(done));

/**
 * Run a module in a page with `body`. `given` are globals that jsdom lacks or that a test watches; the
 * functions of `location` and timers note in `asked` what they were asked for.
 */
export const opened = (module, body, given = {}) => {
  const dom = new JSDOM(`<!doctype html><html><body>${body}</body></html>`, {
    url: ADDRESS,
    runScripts: "outside-only",
    pretendToBeVisual: true,
  });
  const { window } = dom;
  const asked = [];
  const location = {
    href: ADDRESS,
    assign: (url) => asked.push(["assign", url]),
    reload: () => asked.push(["reload"]),
  };
  const timers = [];
  const globals = {
    location,
    setTimeout: (work) => timers.push(work),
    fetch: async () => {
      throw new TypeError("no network");
    },
    prompt: (...said) => asked.push(["prompt", ...said]),
    matchMedia: () => ({ matches: true }),
    scrollTo: (place) => asked.push(["scroll", place.top]),
    ...given,
  };
  const source = readFileSync(new URL(module, STATIC), "utf-8");
  const names = Object.keys(globals);
  window.eval(`(function (${names}) {"use strict";\n${source}\n})`)(...Object.values(globals));
  return { window, document: window.document, asked, timers };
};

/** Dispatch an event with further properties. */
export const happen = (target, type, properties = {}, init = {}) => {
  const window = target.ownerDocument?.defaultView ?? target;
  const event = new window.Event(type, { bubbles: true, cancelable: true, ...init });
  Object.assign(event, properties);
  target.dispatchEvent(event);
  return event;
};
