"use strict";
// Plots by plotly.js, which is loaded when the first one comes into view.
const Plots = (() => {
  let library = null;
  const drawn = new Set();
  const waiting = new IntersectionObserver((seen) => {
    for (const one of seen) if (one.isIntersecting) { waiting.unobserve(one.target); draw(one.target); }
  }, { rootMargin: "200px" });

  function load() {
    library ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = "assets/plotly.min.js";
      script.onload = () => done(window.Plotly);
      script.onerror = () => failed(new Error("assets/plotly.min.js is missing"));
      document.head.append(script);
    });
    return library;
  }

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const escaped = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

  const STAGES = { text_encode: "--warn", image_encode: "--odd", denoise: "--news", decode: "--good" };

  function layout({ x, y, shapes = [], stacked = false, legend = true, category = false }) {
    const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true };
    return {
      margin: { l: 8, r: 8, t: 6, b: 8 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("--ink"), size: 11.5, family: "system-ui, sans-serif" },
      xaxis: { ...axis, title: { text: escaped(x), standoff: 4 }, ...(category ? { type: "category", showticklabels: category !== "quiet" } : {}) },
      yaxis: { ...axis, title: { text: escaped(y), standoff: 4 } },
      barmode: stacked ? "stack" : "group", showlegend: legend, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      hovermode: "closest", shapes,
    };
  }

  async function draw(place) {
    try {
      const plotly = await load();
      const { traces, how, pick } = place.plot();
      await plotly.react(place, traces, layout(how), { displaylogo: false, responsive: true, displayModeBar: "hover",
        modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] });
      if (pick && !drawn.has(place)) place.on("plotly_click", (event) => pick(event.points[0]));
      drawn.add(place);
      place.dataset.drawn = "yes";
    } catch (error) { place.textContent = `no plot: ${error.message}`; }
  }

  return {
    colour, escaped,
    stage: (name) => colour(STAGES[name] ?? "--line"),
    // Draw `plot()` = {traces, how, pick} into `place` once it is seen.
    show(place, plot) { place.plot = plot; waiting.observe(place); },
    again() { for (const place of drawn) if (place.isConnected) draw(place); else drawn.delete(place); },
  };
})();
