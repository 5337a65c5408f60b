// The two sides of a comparison, each a run and its settings, as a form has them.

import { find } from "./elements.js";
import { DEFAULTS, inJSON } from "./sampling.js";
import { optionsOf } from "./settings.js";

const LEGENDS = ["One", "Other"];
const TAKEN = "as taken from above";

export class Sides {
  constructor(page) {
    this.page = page;
    this.sides = LEGENDS.map((legend) => {
      const element = find("side").content.firstElementChild.cloneNode(true);
      element.querySelector("legend").textContent = legend;
      find("sides").append(element);
      const [runs, settings] = element.querySelectorAll("select");
      const side = { runs, settings, hint: element.querySelector(".hint"), taken: null };
      element.addEventListener("change", () => this.describe(side));
      element.querySelector("button").addEventListener("click", () => this.takeSettings(side));
      return side;
    });
    page.addEventListener("run", () => this.fill());
  }

  /** Offer the runs: at first two of them, or of one run two settings. */
  fill() {
    const { runs } = this.page;
    if (this.sides[0].runs.length) return;
    for (const [place, side] of this.sides.entries()) {
      side.runs.replaceChildren(...runs.map(({ name }) => new Option(name)));
      side.runs.parentElement.hidden = runs.length < 2;
      side.runs.selectedIndex = Math.min(place, runs.length - 1);
      side.settings.value = runs.length > 1 ? "own" : ["careful", "bold"][place];
      this.describe(side);
    }
  }

  takeSettings(side) {
    side.taken = this.page.settings.chosen;
    if (side.settings.options[0].value !== TAKEN) side.settings.prepend(new Option(TAKEN));
    side.settings.value = TAKEN;
    this.describe(side);
  }

  describe(side) {
    side.hint.textContent = nameOptions(this.sideOf(side).options);
  }

  /** Both as they are set, {run, options} each. */
  both() {
    return this.sides.map((side) => this.sideOf(side));
  }

  sideOf({ runs, settings, taken }) {
    const { name, options: own } = this.page.runs[runs.selectedIndex];
    const options = { ...optionsOf(settings.value, own), ...(settings.value === TAKEN && taken) };
    return { run: name, options: inJSON(options) }; // as which a rating is kept
  }
}

/** Options in words: those that are not as they are if nothing is said. */
export function nameOptions(options) {
  const said = Object.keys(options).filter((name) => name in DEFAULTS && !isSame(options[name], DEFAULTS[name]));
  return said.length ? inWords(options, said) : "the model's own probabilities";
}

/** Both sides in words: the run, and the options that they do not share. */
export function nameSides([one, other]) {
  const differing = Object.keys(one.options).filter((name) => !isSame(one.options[name], other.options[name]));
  if (one.run === other.run && !differing.length) return [`${one.run} (one)`, `${other.run} (other)`];
  return [one, other].map(({ run, options }) => (differing.length ? `${run}, ${inWords(options, differing)}` : run));
}

function inWords(options, names) {
  const said = (value) => (Array.isArray(value) ? JSON.stringify(value) : value);
  return names.map((name) => `${name.replaceAll("_", " ")} ${said(options[name])}`).join(", ");
}

function isSame(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}
