"use strict";
// The overview with its filters, and one test's part of the page. Every text that comes from the
// run is set as text, never as markup.
const { tests, rows } = JSON.parse(document.getElementById("data").textContent);
const CHUNK = 200;
const $ = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// ---------------------------------------------------------------- the interval against its tolerance

function fillBar(place, bar) {
  const mark = (kind, style) => { const one = make("i", { className: kind }); Object.assign(one.style, style); place.append(one); };
  place.replaceChildren();
  place.setAttribute("role", "img");
  if (!bar) { place.hidden = true; return place; }
  if (bar.tolerance !== null) { mark("over", { left: `${bar.tolerance}%` }); mark("limit", { left: `${bar.tolerance}%` }); }
  mark("zero", {});
  if (bar.low !== null) mark("span", { left: `${bar.low}%`, width: `${bar.high - bar.low}%` });
  mark("dot", { left: `${bar.effect}%` });
  const side = bar.effect > 50 ? "worse" : bar.effect < 50 ? "better" : "the same";
  place.setAttribute("aria-label", bar.tolerance === null ? side : `${side}, ${Math.abs(bar.over).toFixed(1)} times the tolerance`);
  return place;
}

// ---------------------------------------------------------------- the overview

const chosen = new Set();
let shown = [];

function matching() {
  const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const [kind, model] = [$("kind").value, $("model").value];
  return rows.filter((row) => {
    const test = tests[row.test];
    const text = `${row.name} ${test.nodeid} ${test.model} ${row.state} ${row.reason}`.toLowerCase();
    return (!chosen.size || chosen.has(row.state)) && (!kind || row.kind === kind) && (!model || test.model === model)
      && words.every((word) => text.includes(word));
  });
}

function list() {
  shown = matching();
  $("rows").tBodies[0].replaceChildren();
  // A test that failed by itself has a row, and is no measurement.
  const itself = (row) => row.state === "failed";
  const tally = (noun, kind) => `${shown.filter(kind).length} of ${rows.filter(kind).length} ${noun}`;
  $("count").textContent = tally("measurements", (row) => !itself(row)) + (rows.some(itself) ? `, ${tally("other failures", itself)}` : "");
  more();
}

function more() {
  const body = $("rows").tBodies[0];
  const from = body.rows.length;
  body.append(...shown.slice(from, from + CHUNK).map(line));
  const left = shown.length - body.rows.length;
  $("rest").replaceChildren(...(left > 0 ? [Object.assign(make("button", { type: "button", textContent: `${left} more` }), { onclick: more })] : []));
}

function line(row) {
  const test = tests[row.test];
  const name = make("td", { className: "name" }, make("b", { textContent: row.name }), make("small", { textContent: test.nodeid }));
  const change = make("td", { className: "change", textContent: row.change });
  const bar = make("td", {}, fillBar(make("span", { className: "bar" }), row.bar));
  const state = make("td", {}, make("span", { className: `state ${row.state}`, textContent: row.label, title: row.reason }));
  const found = make("tr", { tabIndex: 0 }, name, make("td", { className: "number", textContent: row.value }),
    make("td", { className: "number", textContent: row.baseline }), change, bar, state);
  found.onclick = () => { location.hash = address(row.test, row.name); };
  found.onkeydown = (event) => { if (event.key === "Enter") found.onclick(); };
  return found;
}

const address = (test, name) => `#/${test}/${encodeURIComponent(name)}`;

// ---------------------------------------------------------------- one test

const taken = new Map();
window.vdbTake = (index, detail) => taken.set(index, detail);

function fetched(index) {
  if (taken.has(index)) return Promise.resolve(taken.get(index));
  return new Promise((done, failed) => {
    const script = make("script", { src: `data/${index}.js` });
    script.onload = () => done(taken.get(index));
    script.onerror = () => failed(new Error(`data/${index}.js is missing: keep the page's folder together`));
    document.head.append(script);
  });
}

let open = null; // {index, detail, player, order, sample}
let from = null; // the row that was left, by its address

async function route() {
  const [, index, name] = location.hash.match(/^#\/(\d+)\/(.*)$/) ?? [];
  if (index === undefined || !tests[index]) return overview();
  const there = Number(index);
  from = location.hash;
  try {
    if (open?.index !== there) await build(there);
    measurement(decodeURIComponent(name));
  } catch (error) { $("detail").replaceChildren(backButton(), make("p", { className: "edits", textContent: error.message })); }
  $("overview").hidden = true;
  $("detail").hidden = false;
}

function overview() {
  open?.player.video.pause();
  open = null;
  const was = !$("detail").hidden;
  $("detail").hidden = true;
  $("overview").hidden = false;
  if (!was) return;
  const at = shown.findIndex((row) => address(row.test, row.name) === from);
  $("rows").tBodies[0].rows[at]?.focus();
}

const backButton = () => Object.assign(make("button", { type: "button", textContent: "← overview", title: "Esc" }), { onclick: () => { location.hash = ""; } });

async function build(index) {
  const detail = await fetched(index);
  open?.player.video.pause();
  const player = new Player(make);
  open = { index, detail, player, card: make("div", { className: "card" }), plots: make("div", { className: "plots" }), tables: make("div", { className: "tables" }) };
  const own = rows.filter((row) => row.test === index);
  const picks = make("ul", { className: "picks", ariaLabel: "measurements of this test" }, ...own.map((row) => make("li", { className: row.state }, pick(row))));
  const head = make("div", { className: "head" }, backButton(), make("h2", { textContent: detail.nodeid }),
    make("span", { className: `chip ${detail.outcome}`, textContent: detail.outcome }), make("small", { textContent: detail.model?.name ?? "" }));
  const said = [detail.said, ...detail.beside].filter(Boolean).map((text) => make("p", { className: "said", textContent: text }));
  if (detail.alone) said.push(make("p", { className: "alone", title: "run it in pytest's root folder; a click selects it" }, make("small", { textContent: "this test alone " }), make("code", { textContent: detail.alone })));
  const right = make("div", {}, open.card, ...said, make("h2", { textContent: "Videos" }), theater(detail, player),
    make("h2", { textContent: "Plots" }), open.plots, make("h2", { textContent: "How it was measured" }), open.tables);
  $("detail").replaceChildren(head, make("div", { className: "columns" }, make("nav", {}, picks), right));
  scrollTo(0, 0);
  $("detail").focus({ preventScroll: true });
}

function pick(row) {
  const one = make("button", { type: "button" }, row.name, make("small", { textContent: [row.label, row.change, row.value].filter((one) => one !== "–").slice(0, 2).join(" · ") }));
  one.dataset.name = row.name;
  one.onclick = () => history.replaceState(null, "", address(row.test, row.name)) ?? route();
  return one;
}

function theater(detail, player) {
  const samples = detail.samples;
  const place = make("div", { className: "player" });
  if (!samples.length) {
    place.append(make("p", { className: "absent", textContent: detail.why || "nothing was generated for this test" }));
    return place;
  }
  const most = (sample) => Math.max(-1, ...(sample.film.distances ?? []));
  open.order = samples.map((_, at) => at).sort((a, b) => most(samples[b]) - most(samples[a]) || a - b);
  const texts = Object.fromEntries((detail.workload?.prompts ?? []).map((one) => [one.id, one.text]));
  const text = (at) => texts[samples[at].prompt] ?? samples[at].prompt;
  const choice = make("select", { className: "sample", ariaLabel: "video", title: "next, previous: N, P" },
    ...open.order.map((at) => make("option", { value: at, textContent: title(samples[at], text(at), most(samples[at])) })));
  const prompt = make("p", { className: "prompt" });
  const distances = make("div", { className: "canvas" });
  const strip = make("div", { className: "plot low" }, make("h3", { textContent: "Difference by frame (mean absolute, grey levels of 255) – click to go there" }), distances);
  open.choose = (at) => {
    open.sample = at;
    choice.value = at;
    const { film } = samples[at];
    prompt.textContent = text(at);
    player.show(film, ["candidate", detail.reference]);
    strip.hidden = !film.distances?.length;
    if (!strip.hidden) Plots.show(distances, () => ({ how: { x: "frame", y: "Δ", legend: false }, pick: (point) => player.step(point.x - 1 - player.frame),
      traces: [{ x: film.distances.map((_, i) => i + 1), y: film.distances, mode: "lines+markers", line: { color: Plots.colour("--bad") } }] }));
  };
  player.again = (frame) => player.show(samples[open.sample].film, ["candidate", detail.reference], frame);
  choice.onchange = () => open.choose(Number(choice.value));
  place.append(choice, prompt, player.root, strip);
  open.choose(open.order[0]);
  return place;
}

function title(sample, text, most) {
  const short = text.length > 60 ? `${text.slice(0, 59)}…` : text;
  const how = sample.film.kept === "identical" ? "identical" : most >= 0 ? `Δ ${most.toPrecision(3)}` : "no comparison";
  return `${short} · seed ${sample.seed} · ${how}`;
}

function measurement(name) {
  const { detail, index, card, plots, tables } = open;
  const row = rows.find((one) => one.test === index && one.name === name) ?? rows.find((one) => one.test === index);
  const found = detail.measurements.find((one) => one.name === row?.name);
  for (const button of $("detail").querySelectorAll(".picks button")) button.setAttribute("aria-current", button.dataset.name === row?.name);
  card.className = `card ${row?.state ?? ""}`;
  card.replaceChildren(...(row ? verdict(row) : [make("p", { textContent: "nothing was measured" })]));
  plots.replaceChildren(...(found ? [...samplePlots(found), ...historyPlot(found, row)] : []), ...costPlots(detail));
  tables.replaceChildren(...provenance(found), ...environments(detail), ...workload(detail));
}

function verdict(row) {
  const facts = [row.tolerance && `tolerance ${row.tolerance}`, row.p !== null && `p ${row.p.toPrecision(2)}`, row.n && `n ${row.n}`].filter(Boolean).join(" · ");
  const nothing = row.value === "–" && row.baseline === "–";
  const big = row.change === "–" ? row.value : row.change.split(" [")[0];
  const top = make("div", {}, ...(nothing ? [] : [make("span", { className: "big", textContent: big })]), make("b", { textContent: row.name }), " ", make("span", { className: `chip ${row.state}`, textContent: row.label }));
  const numbers = nothing ? [] : [make("div", { textContent: row.baseline === "–" ? row.value : `${row.baseline} → ${row.value}, change ${row.change}` })];
  const bar = row.bar ? [fillBar(make("span", { className: "bar" }), row.bar), make("div", { className: "scale" }, make("span", { textContent: "← better" }), make("span", { textContent: "no change" }), make("span", { textContent: row.bar.tolerance === null ? "worse →" : "worse → (shaded: beyond the tolerance)" }))] : [];
  const reason = open.detail.said.includes(row.reason) ? [] : [make("p", { textContent: row.reason })]; // it stands below, with its lines
  return [top, ...numbers, ...bar, make("small", { textContent: facts }), ...reason];
}

// ---------------------------------------------------------------- plots

function plotted(heading, plot) {
  const canvas = make("div", { className: "canvas" });
  Plots.show(canvas, plot);
  return make("div", { className: "plot" }, make("h3", { textContent: heading }), canvas);
}

// Bytes as people count them, by the largest; every other unit is a plot's own.
const counted = (unit, values) => (unit !== "B" ? [1, unit] : Math.max(...values) < 2 ** 30 ? [2 ** 20, "MiB"] : [2 ** 30, "GiB"]);
const keyed = (value) => (value.seed === null ? "run" : `${value.prompt}/${value.seed}`);
const esc = Plots.escaped;

function samplePlots(found) {
  if (!found.samples.length) return [];
  const before = found.history.at(-1)?.values ?? {};
  const keys = found.samples.map(keyed);
  const [by, unit] = counted(found.unit, found.samples.map((one) => one.value));
  return [plotted(`${found.name} by video`, () => ({
    how: { x: "video", y: unit, category: keys.length > 12 ? "quiet" : true },
    pick: (point) => { const at = open.detail.samples.findIndex((one) => one.key === keys[point.pointIndex]); if (at >= 0) open.choose(at); },
    traces: [
      ...(Object.keys(before).length ? [{ name: "baseline", x: keys.map(esc), y: keys.map((key) => (key in before ? before[key] / by : null)), mode: "markers", marker: { color: Plots.colour("--dim"), symbol: "circle-open", size: 8 } }] : []),
      { name: "this run", x: keys.map(esc), y: found.samples.map((one) => one.value / by), mode: "markers", marker: { color: Plots.colour("--news"), size: 8 } },
    ],
  }))];
}

function historyPlot(found, row) {
  if (!found.history.length || !found.statistics[found.headline]) return [];
  // Between two sessions: a category is one wide.
  const shapes = found.history.flatMap(({ changed }, at) => (changed ? [{ type: "line", x0: at - 0.5, x1: at - 0.5, yref: "paper", y0: 0, y1: 1, line: { color: Plots.colour("--news"), dash: "dot" } }] : []));
  const labels = found.history.map((one) => `${one.date.slice(0, 16).replace("T", " ")} ${one.commit.slice(0, 8)}`);
  const bad = row.consequence === "fail";
  const [by, unit] = counted(found.unit, [found.statistics[found.headline], ...found.history.map((one) => one.value)]);
  return [plotted(`${found.name} over stored sessions (${found.headline}, with smallest and largest)${shapes.length ? "; dotted: its level changed" : ""}`, () => ({
    how: { x: "session", y: unit, category: labels.length > 4 ? "quiet" : true, shapes },
    traces: [
      { name: "stored", x: labels.map(esc), y: found.history.map((one) => one.value / by), mode: "lines+markers", line: { color: Plots.colour("--dim") },
        error_y: { type: "data", symmetric: false, array: found.history.map((one) => (one.high - one.value) / by), arrayminus: found.history.map((one) => (one.value - one.low) / by), thickness: 1 } },
      { name: "this run", x: ["this run"], y: [found.statistics[found.headline] / by], mode: "markers", marker: { size: 11, symbol: "diamond", color: Plots.colour(bad ? "--bad" : "--news") } },
    ],
  }))];
}

function costPlots(detail) {
  const { samples } = detail;
  const names = samples.map((one) => esc(one.key));
  const quiet = names.length > 12 ? "quiet" : true;
  const stages = [...new Set(samples.flatMap((one) => Object.keys(one.stages)))];
  const peaks = [...new Set(samples.flatMap((one) => Object.keys(one.memory)))].filter((name) => name.startsWith("stage."));
  const found = [];
  if (stages.length) found.push(plotted("Latency by stage", () => ({ how: { x: "video", y: "s", stacked: true, category: quiet },
    traces: stages.map((stage) => ({ name: esc(stage), type: "bar", x: names, y: samples.map((one) => one.stages[stage] ?? null) })) })));
  const stepped = samples.filter((one) => one.steps.length);
  if (stepped.length) found.push(plotted("Latency by denoise step", () => ({ how: { x: "step", y: "s", legend: stepped.length <= 6 },
    traces: stepped.slice(0, 50).map((one) => ({ name: esc(one.key), x: one.steps.map((_, i) => i + 1), y: one.steps, mode: "lines+markers" })) })));
  if (peaks.length) found.push(plotted("Peak memory by stage", () => ({ how: { x: "video", y: "GiB", category: quiet },
    traces: peaks.map((name) => ({ name: esc(name.slice(6)), type: "bar", x: names, y: samples.map((one) => (one.memory[name] ?? null) === null ? null : one.memory[name] / 2 ** 30) })) })));
  return [...found, ...memoryPlots(detail)];
}

// What was held at each moment of the traced generation: the device's and torch's books in one plot,
// the process in another, whose bytes are of another kind.
function memoryPlots({ over_time: found }) {
  if (!found) return [];
  const groups = [["Memory over time", ["allocated", "reserved", "device"]], ["Resident set over time", ["resident"]]];
  return groups.filter(([, names]) => names.some((name) => found.bytes[name]))
    .map(([heading, names]) => plotted(`${heading}, while ${found.sample} was traced`, () => overTime(found, names.filter((name) => found.bytes[name]))));
}

function overTime({ seconds, bytes, stages }, names) {
  const [by, unit] = counted("B", names.flatMap((name) => bytes[name]));
  const ends = [...stages.slice(1).map(([begin]) => begin), seconds];
  const stage = (at) => esc(stages.findLast(([begin]) => begin <= at)?.[1] ?? "");
  const shapes = stages.map(([begin, name], i) => ({ type: "rect", xref: "x", yref: "paper", x0: begin, x1: ends[i], y0: 0, y1: 1, layer: "below", line: { width: 0 },
    fillcolor: Plots.stage(name), opacity: 0.16,
    ...(ends[i] - begin > seconds / 9 ? { label: { text: esc(name), textposition: "top center", font: { size: 10, color: Plots.colour("--dim") } } } : {}) }));
  const traces = names.map((name) => {
    const slice = seconds / bytes[name].length;
    return { name: esc(name), x: bytes[name].map((_, i) => i * slice), y: bytes[name].map((one) => one / by), text: bytes[name].map((_, i) => stage((i + 0.5) * slice)),
      mode: "lines", line: { shape: "hv", width: 1.5 }, ...(name === "allocated" ? { fill: "tozeroy" } : {}), hovertemplate: "%{y:.4g} %{text}<extra>%{fullData.name}</extra>" };
  });
  return { how: { x: "s", y: unit, shapes, legend: names.length > 1 }, traces };
}

// ---------------------------------------------------------------- tables

function table(heading, lines) {
  const body = lines.map(([name, ...cells]) => make("tr", { className: cells.length === 2 && cells[0] !== cells[1] ? "differs" : "" },
    make("td", {}, make("small", { textContent: name })), ...cells.map((cell) => make("td", { textContent: cell }))));
  return make("div", {}, make("h3", { textContent: heading }), make("table", {}, make("tbody", {}, ...body)));
}

const told = (value) => (value === null || value === undefined || value === "" ? "–" : typeof value === "string" ? value : JSON.stringify(value));

function provenance(found) {
  if (!found) return [];
  return [table(`${found.name}: provenance`, [["unit", found.unit], ["better", found.direction], ...Object.entries(found.provenance).map(([name, value]) => [name, told(value)])])];
}

function environments({ facts }) {
  const [ours, theirs] = [facts.ours, facts.theirs];
  if (!Object.keys(theirs).length) return [table("Environment (no baseline to compare it with)", Object.entries(ours).map(([name, value]) => [name, told(value)]))];
  const names = [...new Set([...Object.keys(ours), ...Object.keys(theirs)])];
  const lines = names.map((name) => [name, told(ours[name]), told(theirs[name])]).sort((a, b) => (a[1] === a[2]) - (b[1] === b[2]));
  const differ = lines.filter((one) => one[1] !== one[2]).length;
  return [table(differ ? `Environment: this run, baseline (${differ} differ)` : "Environment: this run, baseline (no difference)", lines)];
}

function workload({ workload, model }) {
  if (!workload) return [];
  const call = Object.entries({ ...workload.call, ...workload.options }).map(([name, value]) => [name, told(value)]);
  return [table("Workload", [["model", told(model?.location)], ["hash", workload.hash], ["dtype", workload.dtype], ["seeds", workload.seeds.join(", ")], ["prompts", `${workload.prompts.length}`], ...call])];
}

// ---------------------------------------------------------------- keys and theme

function theme() {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  Plots.again();
}

function move(by) {
  const lines = [...$("rows").tBodies[0].rows];
  const at = lines.indexOf(document.activeElement);
  lines[Math.max(0, Math.min(lines.length - 1, at + by))]?.focus();
}

function another(by) {
  const at = open.order.indexOf(open.sample) + by;
  if (at >= 0 && at < open.order.length) open.choose(open.order[at]);
}

const anywhere = { t: theme, "?": () => $("keys").showModal() };
const inOverview = { "/": () => $("find").focus(), ArrowDown: () => move(1), ArrowUp: () => move(-1) };
const inDetail = {
  Escape: () => { location.hash = ""; }, " ": () => open.player.playPause(),
  ArrowLeft: (event) => open.player.step(event.shiftKey ? -10 : -1), ArrowRight: (event) => open.player.step(event.shiftKey ? 10 : 1),
  Home: () => open.player.step(-Infinity), End: () => open.player.step(Infinity),
  w: () => open.player.toWorst(), d: () => open.player.difference(), n: () => another(1), p: () => another(-1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  const typing = event.target.matches("input[type=search], select");
  if (typing && event.key !== "Escape") return;
  if (typing) event.target.blur();
  if (event.key === " " && event.target.matches("button, a")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const act = { ...anywhere, ...(open ? (open.order || key === "Escape" ? inDetail : {}) : inOverview) }[key];
  if (act) { event.preventDefault(); act(event); }
});

for (const button of document.querySelectorAll("[data-state]")) {
  button.onclick = () => {
    const on = !chosen.delete(button.dataset.state);
    if (on) chosen.add(button.dataset.state);
    button.setAttribute("aria-pressed", on);
    list();
  };
}
for (const id of ["find", "kind", "model"]) $(id).oninput = list;
document.querySelector(".filters").onsubmit = (event) => event.preventDefault();
for (const place of document.querySelectorAll("[data-bar]")) fillBar(place, JSON.parse(place.dataset.bar));
$("theme").onclick = theme;
$("help").onclick = anywhere["?"];
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => Plots.again());
addEventListener("hashchange", route);
list();
route();
