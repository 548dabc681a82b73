// Judging and looking closer without leaving the page: the place on it, the focus and what was loaded stay.
const state = () => document.getElementById("state");

const pieces = (page) => [page.querySelector(".side"), page.querySelector("#answers"), page.getElementById("state")];

const replace = (page, grown) => {
  const [side, answers, form] = pieces(page);
  const focused = document.activeElement;
  const scrolled = document.querySelector(".side").scrollTop;
  const typed = document.querySelector(".box input[name=x]")?.value ?? "";
  state().replaceWith(form);
  const tray = document.querySelector(".tray");
  if (grown) tray.replaceWith(side.querySelector(".tray"));
  else {
    document.querySelector("#answers").replaceWith(answers);
    tray.replaceWith(side.querySelector(".tray"));
    dispatchEvent(new Event("answers"));
  }
  for (const carried of document.querySelectorAll("input[name=q]")) carried.value = form.elements.q.value;
  document.querySelector(".side").scrollTop = scrolled;
  const box = document.querySelector(".box input[name=x]");
  if (box && !box.value) box.value = typed;
  if (focused?.isConnected || !focused?.name) return;
  const same = [...document.getElementsByName(focused.name)].find((one) => one.value === focused.value);
  (same ?? document.querySelector("#answers")).focus({ preventScroll: true });
};

const mark = (button) => {
  const card = [...document.querySelectorAll(".card")].find(
    (one) => one.querySelector("[name=like]")?.value === button.value,
  );
  if (!card) return;
  if (button.name === "hide") {
    card.remove();
    return;
  }
  const other = card.querySelector(button.name === "like" ? "[name=dislike]" : "[name=like]");
  const own = card.querySelector(`[name=${button.name}]`);
  const pressed = own.getAttribute("aria-pressed") !== "true";
  own.setAttribute("aria-pressed", String(pressed));
  other.setAttribute("aria-pressed", "false");
  card.classList.toggle("liked", pressed && button.name === "like");
  card.classList.toggle("disliked", pressed && button.name === "dislike");
};

const judge = async (button) => {
  const form = new URLSearchParams(new FormData(state()));
  form.set(button.name, button.value);
  try {
    const answer = await fetch(state().action, { method: "POST", body: form });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok || !page.querySelector("#answers")) {
      location.assign(answer.url.includes("/go") ? location.href : answer.url);
      return;
    }
    history.replaceState(history.state, "", answer.url);
    const grown = document.querySelector("[data-grown]") !== null;
    if (grown) mark(button);
    const change = () => replace(page, grown);
    if (document.startViewTransition && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
      document.startViewTransition(change);
    } else change();
  } catch {
    location.reload(); // the page says what is the matter
  }
};

// One after the other: each goes with the conversation that the one before led to.
let judged = Promise.resolve();
addEventListener("submit", (event) => {
  const button = event.submitter;
  if (event.target !== state() || !button?.hasAttribute("data-judge") || !document.querySelector("#answers")) return;
  event.preventDefault();
  judged = judged.then(() => judge(button));
}, true);

// --- details over the results ---------------------------------------------------------------------------------
const dialog = document.createElement("dialog");
dialog.className = "closer";
dialog.addEventListener("click", (event) => {
  if (event.target === dialog || event.target.closest("[data-close]")) {
    event.preventDefault();
    dialog.close();
  }
});
document.body.append(dialog);
addEventListener("click", async (event) => {
  const link = event.target.closest?.("[data-details]");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  try {
    const answer = await fetch(link.href);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const item = page.querySelector("article.item");
    if (!item) throw new Error("no item");
    item.querySelector("h1").id = "closer";
    dialog.setAttribute("aria-labelledby", "closer");
    dialog.replaceChildren(item);
    dialog.showModal();
  } catch {
    location.assign(link.href);
  }
});
