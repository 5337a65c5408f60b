// The settings of sampling, as a form has them.

import { make } from "./elements.js";
import { keepInWindow, readInWindow } from "./keeping.js";
import { explainEnd, explainSteps } from "./order.js";
import { DEFAULTS } from "./sampling.js";

const BOLDNESS = {
  careful: { temperature: 0.5, top_p: 0.9 },
  balanced: { temperature: 0.8, top_p: 0.95 },
  bold: { temperature: 1.2, top_p: 0.98 },
  own: {},
};
const SET = `textwright settings: ${location.pathname}`; // kept until the window is closed
const ENDS = ["max_new_tokens", "min_new_tokens", "stop"]; // when a text ends, of which no word says anything

export class Settings {
  /** order: a list of the steps in force · ending: what tells when a text ends. */
  constructor(form, order, ending) {
    this.elements = form.elements;
    this.order = order;
    this.ending = ending;
    form.addEventListener("input", ({ target }) => {
      if (target.name === "boldness") this.set(target.value, this.typed.filter(([{ name }]) => ENDS.includes(name)));
      else if (target.name in DEFAULTS && !ENDS.includes(target.name)) {
        for (const choice of this.elements.boldness) choice.checked = false;
      }
      this.explain();
    });
    addEventListener("pagehide", () => {
      const typed = this.typed.map(([{ name }, value]) => [name, value]);
      keepInWindow(SET, JSON.stringify({ boldness: this.boldness, seed: String(this.seed), typed }));
    });
  }

  /** Show a run's own settings, changed as those of the run before were, or of the page before it was loaded again. */
  show(run) {
    const typed = this.own ? this.typed : this.restored();
    this.own = run.options;
    this.set(this.boldness, typed);
    this.explain();
  }

  /** Set word and seed as they were when the page was left → what was typed then. */
  restored() {
    const { boldness, seed, typed } = JSON.parse(readInWindow(SET) ?? '{"boldness": "own", "seed": "0", "typed": []}');
    this.elements.boldness.value = this.boldness = boldness; // a browser may bring back another
    this.seed = BigInt(seed);
    return typed.map(([name, value]) => [this.elements[name], value]).filter(([field]) => field);
  }

  /** What was changed by hand, [field, value] each. */
  get typed() {
    const fields = Object.keys(DEFAULTS).flatMap((name) => this.elements[name] ?? []);
    return fields.filter((field) => field.value !== field.defaultValue).map((field) => [field, field.value]);
  }

  /** Say in words which steps are in force. */
  explain() {
    const { options } = this;
    const items = explainSteps(options).map(([name, value]) =>
      make("li", { className: value === "off" ? "off" : "" }, `${name}: ${value}`),
    );
    this.order.replaceChildren(...items);
    const { min_new_tokens: least, max_new_tokens: most } = options;
    const never = least > most ? "The least new tokens cannot be more than the most." : "";
    this.elements.min_new_tokens.setCustomValidity(never);
    this.ending.textContent = `A text ${explainEnd(options)}.`;
  }

  /** Fill in the run's own settings, changed as the word says, and what was typed, [field, value] each. */
  set(boldness, typed) {
    this.boldness = boldness;
    const options = optionsOf(boldness, this.own);
    for (const [name, value] of Object.entries(options)) {
      const field = this.elements[name];
      if (field) field.value = field.defaultValue = name === "stop" ? value.map(inOneLine).join("\n") : value;
    }
    for (const [field, value] of typed) field.value = value;
  }

  get seed() {
    const { value } = this.elements.seed;
    return /^\d+$/.test(value) ? BigInt(value) : 0n;
  }

  set seed(seed) {
    this.elements.seed.value = BigInt.asUintN(64, seed);
  }

  /** The options as they are set, by the names that the run has for them. */
  get options() {
    return { ...DEFAULTS, ...this.own, ...this.chosen };
  }

  /** Those that have fields; the others are always the run's own. */
  get chosen() {
    const numbers = Object.keys(DEFAULTS).filter((name) => name in this.elements && name !== "stop");
    const chosen = Object.fromEntries(numbers.map((name) => [name, Number(this.elements[name].value)]));
    // What the run has for longer texts does not refuse a short one.
    const { min_new_tokens } = { ...DEFAULTS, ...this.own };
    if (chosen.min_new_tokens === min_new_tokens) {
      chosen.min_new_tokens = Math.min(min_new_tokens, chosen.max_new_tokens);
    }
    chosen.stop = this.elements.stop.value.split("\n").filter((line) => line).map((line) => line.replaceAll("\\n", "\n"));
    return chosen;
  }
}

/** What a word means for a run whose own options are these. */
export function optionsOf(boldness, own) {
  return { ...DEFAULTS, ...own, ...BOLDNESS[boldness] };
}

/** A stop text on a line of its own: a line break in it is written \n. */
function inOneLine(text) {
  return text.replaceAll("\n", "\\n");
}
