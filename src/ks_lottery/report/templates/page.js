"use strict";
// Charts, sorting, filters, downloads, light and dark. Text goes into the page as text only, never as HTML.
const CONTENT = JSON.parse(document.getElementById("content").textContent);
const itemOf = (element) => CONTENT[+element.dataset.article][element.dataset.item];
const make = (name, properties = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role" || key === "for") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children);
  return element;
};

// Downloads
const save = (name, type, parts) => {
  const address = URL.createObjectURL(new Blob(parts, { type }));
  const link = make("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
};
const saveCsv = (name, text) => save(`${name}.csv`, "text/csv;charset=utf-8", [text]);

// Light and dark
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const isDark = () => style("color-scheme") === "dark" || getComputedStyle(document.documentElement).colorScheme === "dark";
const chartConfig = () => {
  const ink = style("--ink"), soft = style("--soft"), line = style("--line");
  return {
    background: null, font: "system-ui, sans-serif", aria: false, view: { stroke: null },
    range: { category: ["--c0", "--c1", "--c2", "--c3", "--c4"].map(style).concat(["#4a9fd0", "#8a8a8a", "#a8744a"]) },
    mark: { color: style("--c0") }, rule: { color: ink }, text: { color: ink, fontSize: 12 }, bar: { color: style("--c0") },
    axis: { labelColor: ink, titleColor: soft, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400, gridOpacity: 0.8 },
    legend: { labelColor: ink, titleColor: soft, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400 },
  };
};
const charts = new Map(); // element of a chart to what drew it
const draw = async (plot, spec, then) => {
  charts.get(plot)?.finalize?.();
  const drawn = await vegaEmbed(plot, spec, { actions: false, renderer: "svg", ast: true, config: chartConfig(), tooltip: { theme: "custom" } });
  charts.set(plot, { view: drawn.view, spec, then, finalize: () => drawn.finalize() });
  then?.(drawn.view);
  return drawn.view;
};
const theme = document.getElementById("theme");
const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `Switch to ${theme.textContent.toLowerCase()} colours`); };
const redraw = () => { nameTheme(); for (const [plot, { spec, then }] of [...charts]) draw(plot, spec, then); };
theme.addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; redraw(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
nameTheme();

// Charts are drawn when they come near the window, and all before printing.
const chartTools = (tools, plot, name) => {
  const image = async (ending) => {
    const view = charts.get(plot)?.view;
    if (!view) return;
    if (ending === "svg") save(`${name}.svg`, "image/svg+xml", [await view.toSVG()]);
    else {
      const bytes = atob((await view.toImageURL("png", 2)).split(",")[1]);
      save(`${name}.png`, "image/png", [Uint8Array.from(bytes, (one) => one.charCodeAt(0))]);
    }
  };
  for (const ending of ["svg", "png"])
    tools.append(make("button", { type: "button", textContent: ending.toUpperCase(), "aria-label": `Download ${name} as ${ending.toUpperCase()}`, onclick: () => image(ending) }));
};
const csvTool = (tools, item) =>
  tools.append(make("button", { type: "button", textContent: "CSV", "aria-label": `Download the numbers of ${item.name} as CSV`, onclick: () => saveCsv(item.name, item.csv) }));
const showFigure = (figure) => {
  if (figure.dataset.shown) return;
  figure.dataset.shown = "1";
  const item = itemOf(figure), plot = figure.querySelector(".plot");
  draw(plot, item.spec, (view) => {
    if (item.link) view.addEventListener("click", (_, mark) => {
      const value = mark?.datum?.[item.link];
      if (value !== undefined) document.dispatchEvent(new CustomEvent("rows-of", { detail: { figure, value } }));
    });
  });
};
const figures = [...document.querySelectorAll("figure.chart[data-item]")];
for (const figure of figures) {
  const tools = figure.querySelector(".tools"), item = itemOf(figure);
  chartTools(tools, figure.querySelector(".plot"), item.name);
  csvTool(tools, item);
}
const near = new IntersectionObserver((seen) => seen.forEach((entry) => { if (entry.isIntersecting) { near.unobserve(entry.target); showFigure(entry.target); } }), { rootMargin: "600px" });
figures.forEach((figure) => near.observe(figure));
addEventListener("beforeprint", () => figures.forEach(showFigure));

// Tables sort by a click on a head, and longer ones can be filtered.
const compareKeys = (a, b) => {
  if (a === b) return 0;
  if (a === "") return 1;
  if (b === "") return -1;
  const x = Number(a), y = Number(b);
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
};
const sortable = (table) => {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, place) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "descending" || (head.getAttribute("aria-sort") === null && head.classList.contains("left"));
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "ascending" : "descending");
    const keyed = [...body.rows].map((row, number) => [row.cells[place].dataset.key, number, row]);
    keyed.sort((a, b) => (a[0] === "" || b[0] === "" ? compareKeys(a[0], b[0]) : (down ? 1 : -1) * compareKeys(a[0], b[0])) || a[1] - b[1]);
    body.append(...keyed.map((each) => each[2]));
  }));
};
document.querySelectorAll("table.data").forEach(sortable);
for (const sheet of document.querySelectorAll(".sheet")) {
  const tools = sheet.querySelector(".tools"), table = sheet.querySelector("table"), rows = [...table.tBodies[0].rows];
  if (rows.length > 8) {
    const count = make("span", { className: "count", role: "status" });
    const input = make("input", { type: "search", placeholder: "Filter", "aria-label": "Filter the rows of this table" });
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase();
      let shown = 0;
      for (const row of rows) { row.hidden = !row.textContent.toLowerCase().includes(words); shown += !row.hidden; }
      count.textContent = words ? `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")}` : "";
    });
    tools.append(input, count);
  }
  csvTool(tools, itemOf(sheet));
}

// A click into a chart filters the next table of the same part.
document.addEventListener("rows-of", ({ detail }) => {
  const input = detail.figure.closest("section").querySelector(".sheet input[type=search]");
  if (!input) return;
  input.value = detail.value;
  input.dispatchEvent(new Event("input"));
  input.closest(".sheet").scrollIntoView({ block: "nearest" });
});

// A page that is served while a run goes on asks its own server whether there is a newer one.
if (document.body.dataset.refreshes) {
  let known = null;
  setInterval(async () => {
    try {
      const state = await (await fetch("state", { cache: "no-store" })).text();
      if (known !== null && state !== known) location.reload();
      known = state;
    } catch { /* the server ended; the page stays */ }
  }, 2000);
}
