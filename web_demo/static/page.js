// What every page has. All of it works without this file as well.

// --- a page that is being left ------------------------------------------------------------------------------
const busy = () => document.body.classList.add("busy");
addEventListener("pageshow", () => document.body.classList.remove("busy"));
addEventListener("submit", (event) => {
  if (!event.defaultPrevented) busy();
});
addEventListener("click", (event) => {
  const link = event.target.closest?.("main a[href^='./']");
  const elsewhere = event.metaKey || event.ctrlKey || event.shiftKey || link?.target;
  if (link && !elsewhere && !event.defaultPrevented) busy();
});

// --- menus that lead elsewhere: at once by pointer, by their button otherwise ------------------------------------
for (const menu of document.querySelectorAll("[data-submit]")) {
  const button = menu.form.querySelector("button");
  let byPointer = false;
  menu.addEventListener("pointerdown", () => (byPointer = true));
  menu.addEventListener("keydown", () => (byPointer = false));
  menu.addEventListener("change", () => {
    button.classList.remove("no-js");
    if (byPointer) menu.form.requestSubmit();
  });
}

// --- the step that is asked now, where the strip of turns is wider than the page ----------------------------------
const steps = document.querySelector(".steps");
if (steps) steps.scrollLeft = steps.scrollWidth;

// --- the box for another text of a step: focus goes in, and back on Escape ----------------------------------------
for (const box of document.querySelectorAll("details.edit")) {
  const text = box.querySelector("input[name=text]");
  box.addEventListener("toggle", () => {
    if (!box.open) return;
    text.focus();
    text.select();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    box.open = false;
    box.querySelector("summary").focus();
  });
}

// --- copying the link, also where the page is not served over https ------------------------------------------------
const copy = async (text) => {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const carrier = document.createElement("textarea");
  carrier.value = text;
  document.body.append(carrier);
  carrier.select();
  const done = document.execCommand("copy");
  carrier.remove();
  if (!done) throw new Error("not copied");
};
for (const button of document.querySelectorAll("[data-share]")) {
  button.addEventListener("click", async () => {
    try {
      await copy(location.href);
      button.textContent = button.dataset.shared;
    } catch {
      prompt(button.textContent, location.href); // to be copied by hand
    }
  });
}

// --- a service that is away comes back --------------------------------------------------------------------------
const away = document.querySelector("[data-retry]");
if (away) {
  const again = async () => {
    const answer = await fetch(location.href).catch(() => null);
    if (answer && answer.status !== 503) location.reload();
    else setTimeout(again, 1000 * Number(away.dataset.retry));
  };
  setTimeout(again, 1000 * Number(away.dataset.retry));
}
