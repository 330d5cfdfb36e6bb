"use strict";
// The table of all rows of an embedding: values of 16 bits, unpacked here; ranks are computed here.
const unpack = async (text) => {
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  return await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
};
const numbers = (value, digits = 3) => (value === null || Number.isNaN(value) ? "–" : value === 0 ? "0" : Math.abs(value) >= 1e4 || Math.abs(value) < 1e-3 ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits))));
const shownP = (logP) => { // p itself can be below the smallest number that there is
  if (logP === 0) return "1";
  const ten = logP / Math.LN10, whole = Math.floor(ten);
  return ten > -3 ? numbers(Math.exp(logP)) : `${(10 ** (ten - whole)).toFixed(2)}e${whole}`;
};
const thousands = (value) => value.toLocaleString("en");

// 16 bits to numbers: code 0 is "not there"; others are steps of a logarithm on both sides of 0, or the number itself.
const decode = (codes, { low, step, plain }) => {
  const values = new Float64Array(codes.length);
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (plain) values[i] = code;
    else if (code === 0) values[i] = NaN;
    else if (code === 32768) values[i] = 0;
    else values[i] = code > 32768 ? Math.exp(low + (code - 32769) * step) : -Math.exp(low + (32767 - code) * step);
  }
  return values;
};
// 1 for the largest; equal values share the better rank.
const ranked = (values) => {
  const order = Uint32Array.from(values, (_, i) => i).filter((i) => !Number.isNaN(values[i])).sort((a, b) => values[b] - values[a]);
  const ranks = new Uint32Array(values.length);
  let rank = 0, last = NaN, known = 0;
  for (const i of order) {
    known += 1;
    if (values[i] !== last) { rank = known; last = values[i]; }
    ranks[i] = rank;
  }
  return ranks;
};

class Rows {
  constructor(box) { this.box = box; this.item = itemOf(box); }

  async read() {
    const { item } = this, count = item.count;
    const text = new TextDecoder().decode(await unpack(item.tokens));
    this.tokens = text === "" ? Array(count).fill("") : text.split("\n");
    this.kinds = item.kinds ? new Uint8Array(await unpack(item.kinds)) : null;
    const moved = new Uint32Array(await unpack(item.moved)); // rows that moved, by ascending p
    this.place = new Int32Array(count).fill(-1);
    moved.forEach((row, i) => { this.place[row] = i; });
    this.moved = moved;
    this.k = new Uint16Array(await unpack(item.counts));
    this.columns = [];
    for (const column of item.columns) {
      const part = decode(new Uint16Array(await unpack(column.data)), column);
      const values = new Float64Array(count).fill(column.rest ?? NaN);
      moved.forEach((row, i) => { values[row] = i < part.length ? part[i] : NaN; });
      this.columns.push({ ...column, values, ranks: column.ranked ? ranked(values) : null });
    }
    this.spans = null;
    if (item.spans) {
      this.spans = {};
      const ids = new Uint32Array(await unpack(item.spans.rows));
      for (const [name, data] of Object.entries(item.spans.counts)) {
        const counts = new Uint32Array(await unpack(data)), values = new Uint32Array(count);
        ids.forEach((row, i) => { if (row < count) values[row] = counts[i]; });
        this.spans[name] = values;
      }
      const total = new Float64Array(count);
      for (const values of Object.values(this.spans)) values.forEach((value, i) => { total[i] += value; });
      for (let i = 0; i < count; i++) if (!total[i]) total[i] = NaN;
      this.frequency = ranked(total);
    }
    this.quantiles = null;
    if (item.quantiles) {
      const { rows, before, after, each } = item.quantiles;
      const a = new Float32Array(await unpack(before)), b = new Float32Array(await unpack(after));
      this.quantiles = new Map(rows.map((row, i) => [row, [a.slice(i * each, (i + 1) * each), b.slice(i * each, (i + 1) * each)]]));
    }
    this.heads();
    this.sorted = Uint32Array.from({ length: count }, (_, i) => i);
    this.by = "p"; this.down = false; this.page = 0; this.size = 20; this.selected = -1;
    this.build();
    this.sort();
  }

  // What the columns of the table show, and what they are sorted by: NaN comes last.
  heads() {
    const { item } = this, k = (row) => (this.place[row] < 0 ? 0 : this.k[this.place[row]]);
    const rank = (ranks) => (row) => ranks[row] || NaN;
    const whole = (value) => (Number.isNaN(value) ? "–" : thousands(value));
    this.table = [
      { name: "row", title: "row", key: (row) => row, show: (row) => String(row) },
      { name: "token", title: "token", left: true, key: (row) => this.tokens[row], show: (row) => this.tokens[row] || "(no token)" },
    ];
    if (this.kinds) this.table.push({ name: "kind", title: "kind", left: true, key: (row) => item.kind_names[this.kinds[row]], show: (row) => item.kind_names[this.kinds[row]] });
    this.table.push(
      { name: "D", title: "D", key: (row) => k(row) / item.width, show: (row) => (k(row) / item.width).toFixed(4) },
      { name: "p", title: "p", key: (row) => (this.place[row] < 0 ? item.count + row : this.place[row]), show: (row) => shownP(item.log_p[k(row)]), first: "up" },
    );
    for (const column of this.columns.filter((each) => !each.ranked)) this.table.push({ name: column.name, title: column.title, key: (row) => column.values[row], show: (row) => numbers(column.values[row]) });
    if (this.spans) {
      const names = Object.keys(this.spans);
      this.table.push({ name: "origin", title: "origin", left: true, key: (row) => names.filter((name) => this.spans[name][row]).join(" "), show: (row) => names.filter((name) => this.spans[name][row]).map((name) => `${name} ${thousands(this.spans[name][row])}`).join(", ") || "–" });
      this.table.push({ name: "frequency", title: "frequency rank", key: rank(this.frequency), show: (row) => whole(rank(this.frequency)(row)), first: "up" });
    }
    for (const column of this.columns.filter((each) => each.ranked)) this.table.push({ name: column.name, title: `rank by ${column.title}`, key: rank(column.ranks), show: (row) => whole(rank(column.ranks)(row)), first: "up" });
  }

  build() {
    const { item, box } = this;
    box.textContent = "";
    const input = make("input", { type: "search", placeholder: "token or row", "aria-label": "Find a token or the number of a row" });
    this.words = input;
    const states = [["", "all rows"], ["tickets", `tickets (p < ${item.alpha})`], ["moved", "rows that moved"], ["still", "rows that did not move"]];
    this.state = make("select", { "aria-label": "Which rows" }, ...states.map(([value, textContent]) => make("option", { value, textContent })));
    if (this.kinds) this.kind = make("select", { "aria-label": "Kind of token" }, make("option", { value: "", textContent: "every kind" }), ...item.kind_names.map((name, i) => make("option", { value: String(i), textContent: name })));
    const labels = [["Find", input], ["Rows", this.state], ...(this.kind ? [["Kind", this.kind]] : [])];
    const bar = make("div", { className: "bar" }, ...labels.map(([title, control]) => make("label", {}, title, control)));
    this.total = make("span", { className: "count", role: "status" });
    bar.append(this.total);
    for (const control of [input, this.state, ...(this.kind ? [this.kind] : [])]) control.addEventListener("input", () => { this.page = 0; this.filter(); });
    this.headRow = make("tr");
    for (const column of this.table) {
      const head = make("th", { scope: "col", className: column.left ? "left" : "right" }, make("button", { type: "button", textContent: column.title }));
      head.firstChild.addEventListener("click", () => {
        this.down = this.by === column.name ? !this.down : !(column.left || column.first === "up" || column.name === "row");
        this.by = column.name; this.page = 0; this.sort();
      });
      column.head = head;
      this.headRow.append(head);
    }
    this.body = make("tbody");
    const table = make("table", { className: "data" }, make("thead", {}, this.headRow), this.body);
    const scroll = make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "All rows" }, table);
    this.back = make("button", { type: "button", textContent: "Previous", onclick: () => { this.page -= 1; this.show(); } });
    this.next = make("button", { type: "button", textContent: "Next", onclick: () => { this.page += 1; this.show(); } });
    this.where = make("span", { className: "count", role: "status" });
    const csv = make("button", { type: "button", textContent: "CSV", "aria-label": "Download the rows that are listed as CSV", onclick: () => this.csv() });
    this.panel = make("div", { className: "picked", "aria-live": "polite" }, make("p", { className: "note", textContent: "Pick a token to see its row before and after." }));
    box.append(bar, scroll, make("div", { className: "tools" }, this.back, this.next, this.where, csv), this.panel);
    if (item.note) box.append(make("p", { className: "note", textContent: item.note }));
  }

  sort() {
    const column = this.table.find((each) => each.name === this.by), down = this.down ? -1 : 1;
    for (const each of this.table) each.head.removeAttribute("aria-sort");
    column.head.setAttribute("aria-sort", this.down ? "descending" : "ascending");
    const count = this.sorted.length;
    if (column.left) {
      const keys = Array.from({ length: count }, (_, row) => column.key(row));
      this.sorted.sort((a, b) => (keys[a] === keys[b] ? a - b : (keys[a] < keys[b] ? -1 : 1) * down));
    } else {
      const keys = Float64Array.from({ length: count }, (_, row) => column.key(row));
      this.sorted.sort((a, b) => {
        const x = keys[a], y = keys[b];
        if (Number.isNaN(x) || Number.isNaN(y)) return (Number.isNaN(x) - Number.isNaN(y)) || a - b;
        return (x - y) * down || a - b;
      });
    }
    this.filter();
  }

  filter() {
    const { item } = this, words = this.words.value, number = /^\d+$/.test(words) ? Number(words) : -1, small = words.toLowerCase();
    const state = this.state.value, kind = this.kind?.value ?? "";
    this.listed = this.sorted.filter((row) => {
      const place = this.place[row];
      if (state === "tickets" && !(place >= 0 && this.k[place] >= item.critical)) return false;
      if (state === "moved" && place < 0) return false;
      if (state === "still" && place >= 0) return false;
      if (kind !== "" && this.kinds[row] !== Number(kind)) return false;
      return !words || row === number || this.tokens[row].toLowerCase().includes(small);
    });
    const exact = number < 0 ? -1 : this.listed.indexOf(number);
    if (exact > 0) { // a row that is asked for by its number comes first
      this.listed.copyWithin(1, 0, exact);
      this.listed[0] = number;
    }
    this.total.textContent = `${thousands(this.listed.length)} of ${thousands(this.sorted.length)} rows`;
    this.show();
  }

  show() {
    const pages = Math.max(1, Math.ceil(this.listed.length / this.size));
    this.page = Math.min(Math.max(0, this.page), pages - 1);
    const rows = [...this.listed.slice(this.page * this.size, (this.page + 1) * this.size)];
    this.body.replaceChildren(...rows.map((row) => {
      const line = make("tr", { "aria-selected": String(row === this.selected) });
      for (const column of this.table) {
        const cell = make("td", { className: column.left ? "left" : "right" });
        if (column.name === "token") cell.append(make("bdi", {}, make("button", { type: "button", textContent: column.show(row), onclick: () => this.pick(row) })));
        else cell.textContent = column.show(row);
        line.append(cell);
      }
      return line;
    }));
    this.back.disabled = this.page === 0;
    this.next.disabled = this.page >= pages - 1;
    this.where.textContent = `page ${thousands(this.page + 1)} of ${thousands(pages)}`;
  }

  async pick(row) {
    this.selected = row;
    const focused = document.activeElement?.closest?.("tr") ? row : null;
    this.show();
    if (focused !== null) [...this.body.rows].find((line) => line.getAttribute("aria-selected") === "true")?.querySelector("button").focus();
    const { panel, item } = this, facts = make("dl");
    for (const column of this.table.filter((each) => each.name !== "token")) facts.append(make("div", {}, make("dt", { textContent: column.title }), make("dd", { textContent: column.show(row) })));
    const old = panel.querySelector(".plot");
    if (old) { charts.get(old)?.finalize(); charts.delete(old); }
    panel.replaceChildren(make("h4", {}, "Row ", String(row), ": ", make("bdi", { textContent: this.tokens[row] || "(no token)" })), facts);
    const known = this.quantiles?.get(row);
    if (!known) {
      panel.append(make("p", { className: "note", textContent: this.place[row] < 0 ? "This row did not move." : item.more_quantiles }));
      if (this.place[row] >= 0 && item.more_command) panel.append(make("pre", { className: "command", textContent: item.more_command }));
      return;
    }
    const [before, after] = known, each = before.length;
    const points = [["before", before], ["after", after]].flatMap(([series, values]) => Array.from(values, (x, i) => ({ series, x, y: (i + 0.5) / each })));
    const share = (values, x) => { let low = 0, high = each; while (low < high) { const middle = (low + high) >> 1; if (values[middle] <= x) low = middle + 1; else high = middle; } return low / each; };
    let best = { gap: -1 };
    for (const x of [...before, ...after]) {
      const f = share(before, x), g = share(after, x);
      if (Math.abs(f - g) > best.gap) best = { gap: Math.abs(f - g), x, low: Math.min(f, g), high: Math.max(f, g) };
    }
    const D = this.k[this.place[row]] / item.width, spec = structuredClone(item.distributions);
    spec.data.values = points;
    for (const layer of spec.layer) {
      if (layer.data?.name === "gap") layer.data.values = [best];
      if (layer.data?.name === "label") layer.data.values = [{ x: best.x, middle: (best.low + best.high) / 2, text: `D = ${D.toFixed(4)}` }];
    }
    const plot = make("div", { className: "plot", role: "img", "aria-label": `Cumulative distributions of row ${row} before and after; the largest gap D is ${D.toFixed(4)}` });
    const tools = make("div", { className: "tools" });
    panel.append(plot, tools, make("p", { className: "note", textContent: `Drawn from ${each} quantiles of each side; D itself was computed from all ${thousands(item.width)} coordinates.` }));
    chartTools(tools, plot, `row-${row}`);
    csvTool(tools, { name: `row-${row}`, csv: ["series,value,share", ...points.map((p) => `${p.series},${p.x},${p.y}`)].join("\r\n") + "\r\n" });
    await draw(plot, spec);
  }

  csv() {
    const quote = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const plain = (column, row) => { const value = column.key(row); return column.left ? quote(String(value)) : column.name === "p" ? String(this.item.log_p[this.place[row] < 0 ? 0 : this.k[this.place[row]]]) : Number.isNaN(value) ? "" : String(value); };
    const lines = [this.table.map((column) => quote(column.name === "p" ? "log p" : column.title)).join(",")];
    for (const row of this.listed) lines.push(this.table.map((column) => plain(column, row)).join(","));
    saveCsv(this.item.name, `${lines.join("\r\n")}\r\n`);
  }
}

for (const box of document.querySelectorAll(".rows")) {
  const rows = new Rows(box);
  box.rows_ = rows;
  setTimeout(() => rows.read().then(() => { box.dataset.ready = "1"; }, (error) => {
    box.replaceChildren(make("p", { className: "note", textContent: `The rows cannot be read by this browser (${error.message}).` }));
  }), 0);
}
