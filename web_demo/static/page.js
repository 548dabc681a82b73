// Everything works without this file; with it, pictures can be dropped and pasted, sliders and menus answer at
// once, and more results come on scrolling.
document.documentElement.classList.add("js");

const busy = () => document.body.classList.add("busy");
addEventListener("pageshow", () => document.body.classList.remove("busy"));

for (const form of document.forms) {
  form.addEventListener("submit", busy);
}
for (const control of document.querySelectorAll("[data-submit]")) {
  control.addEventListener("change", () => control.form.requestSubmit());
}
for (const link of document.querySelectorAll("main a[href^='/?']")) {
  link.addEventListener("click", (event) => {
    if (!event.metaKey && !event.ctrlKey && !event.shiftKey) busy();
  });
}

// The step that is asked now, where the strip of turns is wider than the page.
const steps = document.querySelector(".steps");
if (steps) steps.scrollLeft = steps.scrollWidth;

// --- uploads -------------------------------------------------------------------------------------------------
const upload = document.querySelector("[data-upload]");
const send = (files) => {
  const pictures = [...files].filter((file) => file.type.startsWith("image/"));
  if (!upload || pictures.length === 0) return;
  const carried = new DataTransfer();
  carried.items.add(pictures[0]);
  upload.elements.picture.files = carried.files;
  upload.requestSubmit();
};
if (upload) {
  upload.elements.picture.addEventListener("change", () => upload.requestSubmit());
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    send(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => send(event.clipboardData.files));
}

// --- more results on scrolling -----------------------------------------------------------------------------------
const watcher = new IntersectionObserver(
  async (entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      watcher.unobserve(entry.target);
      await extend(entry.target.parentElement);
    }
  },
  { rootMargin: "600px" },
);
const extend = async (list) => {
  const next = list.querySelector(".next");
  const url = list.dataset.more;
  if (!next || !url) return;
  const token = next.dataset.token;
  next.remove();
  try {
    const answer = await fetch(`${url}&token=${encodeURIComponent(token)}`);
    if (!answer.ok) return;
    const piece = document.createRange().createContextualFragment(await answer.text());
    list.append(piece);
  } catch {
    return; // what is there stays
  }
  watch(list);
};
const watch = (list) => {
  const last = [...list.querySelectorAll(".card")].at(-1);
  if (last && list.querySelector(".next")) watcher.observe(last);
};
for (const list of document.querySelectorAll("[data-more]")) watch(list);

// --- share -------------------------------------------------------------------------------------------------------
for (const button of document.querySelectorAll("[data-share]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(location.href);
    button.textContent = document.body.dataset.shared;
  });
}

// --- a service that is away comes back ------------------------------------------------------------------------------
const away = document.querySelector("[data-retry]");
if (away) {
  const again = async () => {
    const answer = await fetch(location.href).catch(() => null);
    if (answer && answer.status !== 503) location.reload();
    else setTimeout(again, 1000 * Number(away.dataset.retry));
  };
  setTimeout(again, 1000 * Number(away.dataset.retry));
}
