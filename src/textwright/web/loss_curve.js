// The loss curve of a run: a drawing, and the same as a table.

import { make, makeTable } from "./elements.js";

const WIDTH = 640;
const HEIGHT = 300;
const [LEFT, RIGHT, TOP, BOTTOM] = [58, 16, 12, 52]; // margins
const KINDS = ["training", "held"];

/** Show a curve (run/curve.py) in an element, in bits; of a run that has none, nothing. */
export function showLossCurve(element, curve) {
  element.replaceChildren();
  if (!curve || curve.training.length + curve.held_out.length < 2) return;
  const { by, training, held_out: heldOut, best } = curve;
  const points = [training, heldOut].map((curve) => curve.map(([step, loss]) => [step, loss / Math.LN2]));
  const kept = heldOut.find(([step]) => step === best);
  const summary = kept ? `Kept: ${by} ${inDigits(best)}, ${kept[2].toFixed(3)} bits a character on held-out text.` : "";
  const names = [`training text${curve.mixed ? ", without the counts" : ""}`, "held-out text"];
  const legend = KINDS.filter((_, place) => points[place].length).map((kind) =>
    make("li", {}, make("span", { className: `mark ${kind}` }), names[KINDS.indexOf(kind)]),
  );
  const rows = heldOut.map(([step, loss, bits]) => [inDigits(step), (loss / Math.LN2).toFixed(3), bits.toFixed(4)]);
  element.append(
    make("h2", {}, "Loss by " + by),
    make("p", { className: "hint", textContent: `Bits a token. ${summary}` }),
    make("ul", { className: "legend" }, ...legend),
    drawing(points, names, by, summary),
  );
  if (rows.length) {
    const table = makeTable("On held-out text", [by, "bits a token", "bits a character"], rows);
    const scroll = make("div", { className: "scroll", tabIndex: 0 }, table);
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "Losses on held-out text");
    element.append(make("details", {}, make("summary", {}, "As a table"), scroll));
  }
}

function drawing(points, names, by, summary) {
  const [across, up] = [0, 1].map((axis) => roundTicks(points.flat().map((point) => point[axis])));
  const toX = axisScale(across, LEFT, WIDTH - RIGHT);
  const toY = axisScale(up, HEIGHT - BOTTOM, TOP);
  const svg = svgElement("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-labelledby": "curve-title curve-text" });
  svg.append(
    svgElement("title", { id: "curve-title" }, "Loss curve"),
    svgElement("desc", { id: "curve-text" }, points.map((curve, at) => spoken(names[at], curve)).join("") + summary),
  );
  for (const tick of up) {
    svg.append(
      svgElement("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: toY(tick), y2: toY(tick) }),
      svgElement("text", { x: LEFT - 8, y: toY(tick) + 5, "text-anchor": "end" }, inDigits(tick)),
    );
  }
  for (const [place, tick] of across.entries()) {
    const anchor = place === across.length - 1 ? "end" : "middle";
    svg.append(svgElement("text", { x: toX(tick), y: HEIGHT - BOTTOM + 22, "text-anchor": anchor }, inDigits(tick)));
  }
  svg.append(svgElement("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, by));
  for (const [place, curve] of points.entries()) {
    const kind = KINDS[place];
    const places = curve.map(([step, bits]) => [toX(step), toY(bits)]);
    svg.append(svgElement("polyline", { class: `curve ${kind}`, points: places.join(" ") }));
    if (kind === "held") svg.append(...places.map(([cx, cy]) => svgElement("circle", { class: "dot", cx, cy, r: 4 })));
  }
  return svg;
}

function spoken(name, curve) {
  if (!curve.length) return "";
  const bits = ([, value]) => value.toFixed(2);
  return `On ${name} from ${bits(curve[0])} to ${bits(curve.at(-1))} bits a token. `;
}

/** Round numbers that enclose the values, about five: steps of 1, 2 or 5 times ten^n. */
export function roundTicks(values) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
  const power = 10 ** Math.floor(Math.log10((high - low) / 5));
  const step = power * ([1, 2, 5].find((times) => times * power >= (high - low) / 5) ?? 10);
  const [first, last] = [Math.floor(low / step + 1e-9), Math.ceil(high / step - 1e-9)];
  return Array.from({ length: last - first + 1 }, (_, at) => Number(((first + at) * step).toPrecision(9)));
}

function axisScale(ticks, begin, end) {
  const [low, high] = [ticks[0], ticks.at(-1)];
  return (value) => Math.round(10 * (begin + ((value - low) / (high - low)) * (end - begin))) / 10;
}

function svgElement(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

function inDigits(number) {
  return number.toLocaleString("en");
}
