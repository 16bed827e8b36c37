"use strict";
// Sweeps: a plot of quality against what it costs, and the table of the points.
function swept(sweep) {
  const { measurements, points } = sweep;
  const named = (name) => measurements.find((one) => one.name === name);
  const scores = measurements.filter((one) => one.kind === "score");
  const costs = measurements.filter((one) => one.kind !== "score");
  const pick = (label, of, first) => {
    const choice = make("select", {}, ...of.map((one) => make("option", { value: one.name, textContent: one.name })));
    choice.value = first ?? of[0]?.name;
    return [choice, make("label", {}, `${label} `, choice)];
  };
  const axes = sweep.fronts[0]?.axes ?? [];
  const found = [make("h3", { textContent: sweep.title })];
  if (sweep.advice) found.push(make("p", { className: `advice ${sweep.chosen === null ? "INCONCLUSIVE" : "PASS"}`, textContent: sweep.advice }));
  if (scores.length && costs.length) {
    const [y, ySide] = pick("Quality", scores, axes[0]);
    const [x, xSide] = pick("against", costs, axes[1]);
    const canvas = make("div", { className: "canvas" });
    const redraw = () => Plots.show(canvas, () => ({ ...parts(sweep, named(x.value), named(y.value)), pick: (point) => visit(point.customdata) }));
    x.onchange = y.onchange = redraw;
    redraw();
    found.push(make("form", { className: "filters" }, ySide, xSide), make("div", { className: "plot" }, canvas));
  }
  const head = make("tr", {}, make("th", { textContent: "point" }), ...measurements.map((one) => make("th", { textContent: one.name })));
  const lines = points.map((point, at) => make("tr", { className: at === sweep.chosen ? "chosen" : "" }, make("td", { className: "name" }, pointName(sweep, point, at)),
    ...measurements.map((one) => make("td", { textContent: point.cells[one.name] }))));
  found.push(make("div", { className: "wide" }, make("table", { className: "points" }, make("thead", {}, head), make("tbody", {}, ...lines))), make("p", {}, make("small", { textContent: sweep.legend })));
  return make("div", { className: "sweep" }, ...found);
}

const visit = (nodeid) => {
  const at = tests.findIndex((one) => one.nodeid === nodeid);
  const row = rows.find((one) => one.test === at);
  if (row) location.hash = address(at, row.name);
};

function pointName(sweep, point, at) {
  const front = sweep.fronts[0]?.points.includes(at) ? "* " : "";
  const link = make("a", { href: "#", textContent: `${front}${point.id}`, title: "its videos" });
  link.onclick = (event) => { event.preventDefault(); visit(point.tests[0]); };
  return make("span", {}, link, ...(point.passed ? [] : [make("span", { className: "state failed", textContent: " failed" })]));
}

// Each point with its intervals; those that no other one beats in quality, time and memory are filled.
function parts(sweep, x, y) {
  const [byX, unitX] = counted(x.unit);
  const [byY, unitY] = counted(y.unit);
  const front = sweep.fronts.find((one) => one.axes[0] === y.name && one.axes.includes(x.name));
  const memory = front?.axes.find((name) => name.startsWith("memory.") && name !== x.name);
  const peak = (at) => (memory ? sweep.points[at].levels[memory].value : null);
  const largest = Math.max(...sweep.points.map((_, at) => peak(at) ?? 0)) || 1;
  const having = sweep.points.map((_, at) => at).filter((at) => [x, y].every((one) => sweep.points[at].levels[one.name].value !== null));
  const on = having.filter((at) => front?.points.includes(at));
  const off = having.filter((at) => !on.includes(at));
  const value = (at, one, by) => sweep.points[at].levels[one.name].value / by;
  const bars = (places, one, by) => ({
    type: "data", symmetric: false, thickness: 1, width: 3,
    array: places.map((at) => (sweep.points[at].levels[one.name].interval ? sweep.points[at].levels[one.name].interval[1] / by - value(at, one, by) : 0)),
    arrayminus: places.map((at) => (sweep.points[at].levels[one.name].interval ? value(at, one, by) - sweep.points[at].levels[one.name].interval[0] / by : 0)),
  });
  const trace = (name, places, more) => ({
    name, mode: "markers", x: places.map((at) => value(at, x, byX)), y: places.map((at) => value(at, y, byY)),
    error_x: bars(places, x, byX), error_y: bars(places, y, byY), customdata: places.map((at) => sweep.points[at].tests[0]),
    text: places.map((at) => esc(`${sweep.points[at].id}${memory && peak(at) !== null ? `, ${memory} ${sweep.points[at].cells[memory]}` : ""}`)),
    hovertemplate: "%{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>", ...more,
    marker: { size: places.map((at) => (peak(at) === null ? 10 : 7 + 11 * Math.sqrt(peak(at) / largest))), ...more.marker },
  });
  const sorted = [...on].sort((a, b) => value(a, x, byX) - value(b, x, byX));
  const traces = [
    trace("beaten by another", off, { marker: { color: Plots.colour("--dim"), symbol: "circle-open" } }),
    trace(front ? "beaten by none" : "points", sorted, { mode: "lines+markers", line: { dash: "dot", width: 1 }, marker: { color: Plots.colour("--news") } }),
  ];
  if (having.includes(sweep.chosen)) traces.push(trace("recommended", [sweep.chosen], { error_x: {}, error_y: {}, marker: { color: Plots.colour("--good"), symbol: "star", size: 17 } }));
  return { how: { x: `${x.name} (${unitX})`, y: `${y.name} (${unitY})` }, traces: traces.filter((one) => one.x.length) };
}

$("sweeps").append(...JSON.parse($("data").textContent).sweeps.map(swept));
for (const form of $("sweeps").querySelectorAll("form")) form.onsubmit = (event) => event.preventDefault();
