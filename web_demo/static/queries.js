// Recall at K of the queries with known answers that were asked in this tab, by method.
const DEPTHS = [1, 5, 10, 50];

/** Ranks by method and query, 0 for none; empty where the browser keeps nothing for us. */
const read = (key) => {
  try {
    return JSON.parse(sessionStorage.getItem(key)) ?? {};
  } catch {
    return {};
  }
};
const write = (key, ranks) => {
  try {
    sessionStorage.setItem(key, JSON.stringify(ranks));
  } catch {
    // shown as far as it is known here
  }
};

const cell = (name, text, scope) => {
  const made = document.createElement(name);
  if (scope) made.scope = scope;
  made.textContent = text;
  return made;
};
const show = (bar, ranks) => {
  const head = bar.querySelector("thead tr");
  while (head.children.length > 2) head.lastElementChild.remove();
  head.append(...DEPTHS.map((depth) => cell("th", `R@${depth}`, "col")));
  const rows = Object.entries(ranks).map(([method, asked]) => {
    const found = Object.values(asked);
    const share = (depth) => found.filter((rank) => rank && rank <= depth).length / found.length;
    const row = document.createElement("tr");
    const shares = DEPTHS.map((depth) => cell("td", `${Math.round(100 * share(depth))} %`));
    row.append(cell("th", method, "row"), cell("td", found.length), ...shares);
    return row;
  });
  bar.querySelector("tbody").replaceChildren(...rows);
  bar.querySelector(".session").hidden = !rows.length;
};

const begin = () => {
  const bar = document.querySelector("[data-query]");
  if (!bar) return;
  const key = `ranks ${bar.dataset.catalog}`;
  const ranks = read(key);
  if (bar.dataset.query) {
    for (const { dataset } of document.querySelectorAll("[data-by]")) {
      ranks[dataset.by] = { ...ranks[dataset.by], [bar.dataset.query]: Number(dataset.rank) };
    }
    write(key, ranks);
  }
  show(bar, ranks);
  bar.querySelector(".session button").addEventListener("click", () => {
    write(key, {});
    show(bar, {});
  });
};
addEventListener("answers", begin);
begin();
