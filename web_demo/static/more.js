// More results come on scrolling. Where that fails, a button is left that tries again.
const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      watcher.unobserve(entry.target);
      extend(entry.target);
    }
  },
  { rootMargin: "600px" },
);

const extend = async (next) => {
  const list = next.parentElement;
  const button = next.querySelector("button");
  if (!list) return; // the list was replaced meanwhile
  button.disabled = true;
  try {
    const answer = await fetch(`${list.dataset.more}&token=${encodeURIComponent(next.dataset.token)}`);
    if (!answer.ok) throw new Error(`${answer.status}`);
    const piece = document.createRange().createContextualFragment(await answer.text());
    next.replaceWith(piece);
    const shown = list.parentElement.querySelector("[data-shown]");
    if (shown) shown.textContent = shown.dataset.shown.replace("{number}", list.querySelectorAll(".card").length);
    list.dataset.grown = "";
    watch(list);
  } catch {
    button.disabled = false;
    button.hidden = false;
  }
};

const watch = (list) => {
  const next = list.querySelector(".next");
  if (!next) return;
  next.querySelector("button").addEventListener("click", () => extend(next));
  watcher.observe(next);
};

// --- going back, also where the browser did not keep the page: to as many results, and to the same place ------------
const cards = () => document.querySelectorAll("[data-more] .card").length;
addEventListener("pagehide", () => {
  if (document.querySelector("[data-grown]")) {
    history.replaceState({ ...history.state, shown: cards(), place: scrollY }, "");
  }
});
const restore = async () => {
  const { shown, place } = history.state ?? {};
  if (!shown || shown <= cards()) return;
  for (let last = -1; cards() < shown && cards() !== last; ) {
    last = cards();
    await Promise.all([...document.querySelectorAll(".next")].map(extend));
  }
  scrollTo({ top: place, behavior: "instant" });
};

const begin = () => document.querySelectorAll("[data-more]").forEach(watch);
addEventListener("answers", begin);
begin();
restore();
