// The view inside: what the model looked back on where the chosen token came, as shades of the tokens
// before it. What there is depends on the family: attention or gates, and saliency from a server.

import { asked } from "./asked.js";
import { find, make, makeTable } from "./elements.js";
import { called, percent, ShadedText } from "./shaded_text.js";

const START = "(start)"; // in place of the stop id that begins a text
const QUANTITIES = {
  f: ["forget gate f", "mean"],
  i: ["input gate i", "mean"],
  candidate: ["candidate |C̃|", "magnitude"],
  C: ["cell |C|", "magnitude"],
  o: ["output gate o", "mean"],
  r: ["reset gate r", "mean"],
  z: ["update gate z", "mean"],
  n: ["candidate |n|", "magnitude"],
  h: ["hidden state |h|", "magnitude"],
};
const PARTS = { neural: "neural model", counts: "counts, with the model", memory: "memory of this text" };

export class InsideView {
  constructor(page) {
    this.page = page;
    this.looking = new AbortController();
    this.text = new ShadedText(find("inside-text"), "seen", (place) => this.tell(place));
    for (const event of ["token", "text"]) page.addEventListener(event, () => this.look());
    find("inside").addEventListener("toggle", () => this.look());
    find("inside-view").addEventListener("change", () => this.show());
  }

  /** Ask for the place that is chosen on the page, if this view is open. */
  look() {
    const { page } = this;
    const { shown, place } = page;
    this.looking.abort();
    const element = find("inside");
    element.hidden = !shown || place < 0 || shown.tokens[place].id === null;
    if (element.hidden || !element.open || !page.engine) return;
    const { signal } = (this.looking = new AbortController());
    const { tokens } = shown;
    find("inside-said").textContent = "Looking inside…";
    const work = async () => {
      const request = { ...asked(shown, tokens.slice(0, place)), target: tokens[place].id };
      const found = await page.engine.inside(request, signal);
      if (!signal.aborted) this.take(found);
    };
    page.attempt(work, signal, ({ message }) => this.empty(message));
  }

  /** Show nothing but a sentence. */
  empty(sentence) {
    find("inside-view").parentElement.hidden = find("inside-text").hidden = true;
    find("inside-parts").replaceChildren();
    find("inside-said").textContent = sentence;
  }

  take(found) {
    const { kind, stop_id } = this.page.run.tokenizer;
    const gap = ["word", "symbols"].includes(kind) ? " " : "";
    this.seen = found.seen.map(({ id, text }) => (id === stop_id ? `${START} ` : text + gap));
    this.views = viewsOf(found);
    const chooser = find("inside-view");
    const { value } = chooser;
    chooser.replaceChildren(...this.views.map(({ name }) => new Option(name)));
    if (this.views.some(({ name }) => name === value)) chooser.value = value;
    find("inside-parts").replaceChildren(...notesOf(found));
    this.show();
  }

  show() {
    const view = this.views[find("inside-view").selectedIndex];
    if (!view) return this.empty("Counts look back on the newest tokens alone, and have nothing inside.");
    find("inside-view").parentElement.hidden = find("inside-text").hidden = false;
    const { values, say } = view;
    const sizes = values.map(Math.abs);
    const most = Math.max(1e-9, ...sizes);
    this.text.show(this.seen.map((text, at) => ({ text, level: values[at] / most })));
    const order = values.map((_, at) => at).sort((one, other) => sizes[other] - sizes[one]);
    const named = order.slice(0, 3).map((at) => `“${called({ text: this.seen[at] })}” ${say(at)}`);
    find("inside-said").textContent = `The most: ${named.join("; ")}.`;
  }

  tell(place) {
    const { say } = this.views[find("inside-view").selectedIndex];
    find("inside-said").textContent = `“${called({ text: this.seen[place] })}”: ${say(place)}`;
  }
}

/** What can be chosen: {name, values (T,), say(place)}. */
export function viewsOf({ attention, gates, saliency }) {
  const views = [];
  const add = (name, values, say) => views.push({ name, values, say });
  const addShares = (name, values) => add(name, values, (at) => percent(values[at]));
  if (saliency) {
    const sign = (value) => (value < 0 ? "−" : "+");
    add("saliency", saliency, (at) => `${sign(saliency[at])}${Math.abs(saliency[at]).toFixed(3)} nats`);
  }
  if (attention) addShares("attention, mean of all heads", meanOf(attention.flat()));
  for (const [layer, heads] of (attention ?? []).entries()) {
    const name = `attention, layer ${layer + 1}`;
    if (heads.length > 1) addShares(`${name}, mean of heads`, meanOf(heads));
    heads.forEach((values, head) => addShares(`${name}, head ${head + 1}`, values));
  }
  for (const [layer, quantities] of (gates ?? []).entries()) {
    for (const [quantity, statistics] of Object.entries(quantities)) {
      const [name, kind] = QUANTITIES[quantity];
      const { [kind]: values, min, max } = statistics;
      const say = (at) => `${values[at].toFixed(3)} on average, units from ${min[at].toFixed(2)} to ${max[at].toFixed(2)}`;
      add(`${name}, layer ${layer + 1}`, values, say);
    }
  }
  return views;
}

/** What else is to be said: what is lacking here, and what each part of a mixture gave to the token. */
function notesOf({ attention, gates, saliency, shares, parts }) {
  const note = (text) => make("p", { className: "hint" }, text);
  const lacking = (attention || gates) && !saliency;
  const notes = lacking ? [note("Saliency needs gradients, which only the page of a server has.")] : [];
  if (!shares) return notes;
  const given = Object.entries(PARTS).map(([part, name]) => [name, shares[part], parts[part], shares[part] * parts[part]]);
  const whole = given.reduce((sum, [, , , chance]) => sum + chance, 0);
  const rows = given.map(([name, share, chance, both]) => [name, percent(share), percent(chance), percent(both / whole)]);
  const heads = ["part of the mixture", "its weight", "its probability", "of the whole"];
  notes.push(note("The shades are those of the neural model, one part of a mixture."));
  return [...notes, makeTable("Where this token's probability comes from", heads, rows)];
}

function meanOf(rows) {
  return rows[0].map((_, at) => rows.reduce((sum, row) => sum + row[at], 0) / rows.length);
}
