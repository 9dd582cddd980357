"use strict";
/* One chart: lines over steps or epochs, drawn as SVG; mouse, touch and arrow keys move a cursor that shows values. */

const SVG = "http://www.w3.org/2000/svg";
const DASHES = ["", "6 4", "2 3", "9 3 2 3"];
const HEIGHT = 250;
const MARGIN = { left: 56, right: 14, top: 10, bottom: 36 };

function make(name, attributes = {}, ...children) {
  const node = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function format(value) {
  if (value === null || !Number.isFinite(value)) return "not finite";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return String(Number(value.toPrecision(size >= 1e3 ? 6 : 4)));
}

function linearTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((m) => m * power >= rough) || 10);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  const decades = Math.log10(high / low);
  const factors = decades > 6 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 3, 5, 7];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) {
    for (const f of factors) {
      const value = Number((f * 10 ** p).toPrecision(3));
      if (value >= low && value <= high) ticks.push(value);
    }
  }
  return ticks.length >= 2 ? ticks : linearTicks(low, high, 4).filter((v) => v > 0);
}

/* Exponential moving average, corrected for its start; gaps stay gaps. */
function smoothed(values, weight) {
  let sum = 0;
  let norm = 0;
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

/* The range of nearly all values, if a few others would press these into a line; [low, high] otherwise. */
function withoutOutliers(values, low, high) {
  const sorted = values.slice().sort((a, b) => a - b);
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const [from, to] = [at(0.03), at(0.97)];
  return sorted.length >= 20 && high - low > 20 * (to - from) && to > from ? [Math.max(low, from), Math.min(high, to)] : [low, high];
}

let clips = 0;

class Chart {
  /* data: the report's data; group: what to draw; options: shared settings {x, smooth, log, outliers, hiddenRuns}. */
  constructor(place, data, group, options) {
    this.group = group;
    this.options = options;
    this.hidden = new Set();
    this.cursor = null;
    this.lines = [];
    // a metric by step and the same by epoch are one colour, the former paler
    const base = (name) => name.replace(/_(step|epoch)$/, "");
    const bases = [...new Set(group.names.map(base))];
    data.runs.forEach((run, r) => {
      group.names.filter((name) => run.series[name]).forEach((name) => {
        const position = bases.indexOf(base(name));
        const several = data.runs.length > 1;
        this.lines.push({
          run: r, name, label: several ? `${run.label}: ${name}` : name, data: run.series[name],
          colour: `var(--s${(several ? r : position) % 8})`, dash: several ? DASHES[position % 4] : "",
          faint: name.endsWith("_step") && group.names.length > 1,
        });
      });
    });
    this.legend = make("div", { class: "legend", role: "group", "aria-label": `Lines of ${group.title}` });
    this.svg = make("svg:svg", { tabindex: "0", role: "img" });
    this.tip = make("div", { class: "tip", hidden: "" });
    this.spoken = make("div", { class: "visually-hidden", "aria-live": "polite" });
    const box = make("div", { class: "chart" }, this.svg, this.tip, this.spoken);
    place.append(make("h3", {}, group.title), this.legend, box);
    this.drawLegend();
    this.svg.addEventListener("pointermove", (event) => this.point(event.clientX - this.svg.getBoundingClientRect().left));
    this.svg.addEventListener("pointerleave", () => this.leave());
    this.svg.addEventListener("blur", () => this.leave());
    this.svg.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(box);
  }

  drawLegend() {
    for (const line of this.lines) {
      const stroke = { stroke: line.colour, "stroke-width": line.faint ? 1.5 : 3, "stroke-dasharray": line.dash };
      const mark = make("svg:svg", { viewBox: "0 0 20 8", "aria-hidden": "true" }, make("svg:path", { d: "M0 4H20", ...stroke }));
      const button = make("button", { type: "button", "aria-pressed": "true" }, mark, line.label);
      button.addEventListener("click", () => {
        this.hidden.has(line) ? this.hidden.delete(line) : this.hidden.add(line);
        button.setAttribute("aria-pressed", String(!this.hidden.has(line)));
        this.draw();
      });
      this.legend.append(button);
    }
  }

  visible() {
    return this.lines.filter((line) => !this.hidden.has(line) && !this.options.hiddenRuns.has(line.run));
  }

  /* Fills in what is drawn: x, y and raw of every visible line, and the two scales. */
  measure(width) {
    const byEpoch = this.options.x === "epoch" && !this.group.byBatch;
    const log = this.options.log;
    const shown = this.visible();
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    const values = [];
    for (const line of shown) {
      line.x = byEpoch ? line.data.e : line.data.x;
      line.raw = log ? line.data.y.map((v) => (v !== null && v > 0 ? v : null)) : line.data.y;
      line.y = this.options.smooth > 0 && line.raw.length > 20 ? smoothed(line.raw, this.options.smooth) : line.raw;
      line.x.forEach((x, i) => {
        if (line.raw[i] === null) return;
        x0 = Math.min(x0, x); x1 = Math.max(x1, x);
        y0 = Math.min(y0, line.raw[i]); y1 = Math.max(y1, line.raw[i]);
        values.push(line.raw[i]);
      });
    }
    if (x0 > x1) return null;
    if (x0 === x1) { x0 -= 0.5; x1 += 0.5; }
    if (this.options.outliers && !log) [y0, y1] = withoutOutliers(values, y0, y1);
    const flat = y0 === y1;
    if (log) {
      const pad = flat ? 2 : (y1 / y0) ** 0.05;
      y0 /= pad; y1 *= pad;
    } else {
      const pad = flat ? Math.abs(y0) * 0.1 || 1 : (y1 - y0) * 0.06;
      y0 = y0 >= 0 && y0 - pad < 0 ? 0 : y0 - pad;
      y1 += pad;
    }
    const right = width - MARGIN.right;
    const bottom = HEIGHT - MARGIN.bottom;
    const f = log ? Math.log : (v) => v;
    return {
      x: (v) => MARGIN.left + ((v - x0) / (x1 - x0)) * (right - MARGIN.left),
      y: (v) => bottom - ((f(v) - f(y0)) / (f(y1) - f(y0))) * (bottom - MARGIN.top),
      xTicks: linearTicks(x0, x1, Math.max(3, Math.floor(width / 90))),
      yTicks: log ? logTicks(y0, y1) : linearTicks(y0, y1, 5),
      right, bottom, shown, label: this.group.byBatch ? "evaluation batch" : byEpoch ? "epochs done" : "step",
    };
  }

  draw() {
    const width = this.svg.parentNode.clientWidth;
    if (!width) return;
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute("height", HEIGHT);
    const scale = (this.scale = this.measure(width));
    const text = (x, y, content, anchor) => this.svg.append(make("svg:text", { x, y, "text-anchor": anchor }, content));
    if (!scale) {
      text(width / 2, HEIGHT / 2, "nothing to draw", "middle");
      this.svg.setAttribute("aria-label", `${this.group.title}: nothing to draw`);
      return;
    }
    for (const tick of scale.yTicks) {
      const y = scale.y(tick);
      this.svg.append(make("svg:line", { class: "gridline", x1: MARGIN.left, x2: scale.right, y1: y, y2: y }));
      text(MARGIN.left - 7, y + 3.5, format(tick), "end");
    }
    this.svg.append(make("svg:line", { class: "axis", x1: MARGIN.left, x2: scale.right, y1: scale.bottom, y2: scale.bottom }));
    for (const tick of scale.xTicks) text(scale.x(tick), scale.bottom + 16, format(tick), "middle");
    text((MARGIN.left + scale.right) / 2, HEIGHT - 3, scale.label, "middle");
    const id = `clip${clips++}`;
    const room = { x: MARGIN.left - 5, y: 0, width: scale.right - MARGIN.left + 10, height: scale.bottom + 5 };
    this.plot = make("svg:g", { "clip-path": `url(#${id})` });
    this.svg.append(make("svg:clipPath", { id }, make("svg:rect", room)), this.plot);
    for (const line of scale.shown) this.drawLine(line, scale);
    this.cursorLayer = make("svg:g", { "aria-hidden": "true" });
    this.svg.append(this.cursorLayer);
    const last = scale.shown.map((line) => {
      const at = line.raw.findLastIndex((v) => v !== null);
      return at < 0 ? `${line.label} without finite values` : `${line.label} ${format(line.raw[at])}`;
    });
    this.svg.setAttribute("aria-label", `${this.group.title} by ${scale.label}. Last values: ${last.join(", ")}. Arrow keys move the cursor.`);
    if (this.cursor !== null) this.showCursor();
  }

  drawLine(line, scale) {
    const path = (values) => {
      let d = "";
      let pen = false;
      values.forEach((value, i) => {
        if (value === null) { pen = false; return; }
        d += `${pen ? "L" : "M"}${scale.x(line.x[i]).toFixed(1)} ${scale.y(value).toFixed(1)}`;
        pen = true;
      });
      return d;
    };
    const style = { class: "line", stroke: line.colour, "stroke-dasharray": line.dash };
    const isSmoothed = line.y !== line.raw;
    if (isSmoothed) this.plot.append(make("svg:path", { ...style, d: path(line.raw), opacity: 0.2, "stroke-width": 1 }));
    this.plot.append(make("svg:path", { ...style, d: path(line.y), ...(line.faint && !isSmoothed ? { opacity: 0.5, style: "stroke-width:1.1" } : {}) }));
    const count = line.y.length;
    line.y.forEach((value, i) => {
      const alone = (line.y[i - 1] ?? null) === null && (line.y[i + 1] ?? null) === null;
      if (value === null || (count > 40 && !alone)) return;
      this.plot.append(make("svg:circle", { cx: scale.x(line.x[i]), cy: scale.y(value), r: alone ? 4 : 2.4, fill: line.colour }));
    });
  }

  /* Puts the cursor on the x value nearest to a place in the chart. */
  point(pixels) {
    if (!this.scale) return;
    let best = Infinity;
    for (const line of this.scale.shown) {
      line.x.forEach((x) => {
        const distance = Math.abs(this.scale.x(x) - pixels);
        if (distance < best) { best = distance; this.cursor = x; }
      });
    }
    this.showCursor();
  }

  key(event) {
    if (!this.scale || !["ArrowLeft", "ArrowRight", "Home", "End", "Escape"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === "Escape") { this.leave(); return; }
    const all = [...new Set(this.scale.shown.flatMap((line) => line.x))].sort((a, b) => a - b);
    const at = this.cursor === null ? -1 : all.indexOf(this.cursor);
    const to = { ArrowLeft: at < 0 ? all.length - 1 : at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
    this.cursor = all[Math.min(Math.max(to, 0), all.length - 1)];
    this.showCursor();
    this.spoken.textContent = this.tip.innerText.replace(/\s+/g, " ");
  }

  leave() {
    this.cursor = null;
    this.tip.hidden = true;
    if (this.cursorLayer) this.cursorLayer.replaceChildren();
  }

  showCursor() {
    const { scale } = this;
    if (this.cursor === null) return;
    const x = scale.x(this.cursor);
    this.cursorLayer.replaceChildren(make("svg:line", { class: "cursor", x1: x, x2: x, y1: MARGIN.top, y2: scale.bottom }));
    const rows = [];
    for (const line of scale.shown) {
      let at = -1;
      line.x.forEach((value, i) => { if (at < 0 || Math.abs(value - this.cursor) < Math.abs(line.x[at] - this.cursor)) at = i; });
      // a value far from the cursor is not the value here
      if (at < 0 || Math.abs(scale.x(line.x[at]) - x) > 24) continue;
      const value = line.y[at];
      if (value !== null && scale.y(value) > -5) {
        this.cursorLayer.append(make("svg:circle", { cx: scale.x(line.x[at]), cy: scale.y(value), r: 4, fill: line.colour, stroke: "var(--card)", "stroke-width": 1.5 }));
      }
      const mark = make("span", { class: "dot", style: `background:${line.colour}` });
      rows.push(make("tr", {}, make("td", {}, mark), make("td", {}, line.label), make("td", {}, format(value))));
    }
    this.tip.replaceChildren(make("strong", {}, `${scale.label} ${format(this.cursor)}`), make("table", {}, make("tbody", {}, ...rows)));
    this.tip.hidden = false;
    const room = this.svg.parentNode.clientWidth;
    const wide = this.tip.offsetWidth;
    this.tip.style.left = `${x + 14 + wide > room ? Math.max(0, x - 14 - wide) : x + 14}px`;
    this.tip.style.top = "14px";
  }
}
