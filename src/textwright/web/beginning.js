// What a text begins with: words, or fields of the run's template, which the model writes around.

import { find, make } from "./elements.js";
import { keepInWindow, readInWindow } from "./keeping.js";

const TYPED = `textwright prompt: ${location.pathname}`; // kept until the window is closed, as are
const WAY = `textwright way: ${location.pathname}`;
const FIELDS = `textwright fields: ${location.pathname}`;

export class Beginning {
  /** onChange(): called when it is another. */
  constructor(onChange) {
    find("prompt").value = readInWindow(TYPED) ?? "";
    this.way = readInWindow(WAY) ?? "prompt"; // for runs that have fields
    this.typed = new Map(JSON.parse(readInWindow(FIELDS) ?? "[]")); // into the fields of any run
    addEventListener("pagehide", () => {
      const { value } = find("prompt");
      keepInWindow(TYPED, value === this.own ? "" : value);
      keepInWindow(WAY, this.way);
      keepInWindow(FIELDS, JSON.stringify([...this.typed]));
    });
    find("fields").addEventListener("input", ({ target }) => this.typed.set(target.dataset.name, target.value));
    for (const id of ["prompt", "fields"]) find(id).addEventListener("input", onChange);
    find("ways").addEventListener("change", ({ target }) => {
      this.way = target.value;
      this.showWay();
      onChange();
    });
  }

  /** Begin as the run's own samples do, or as it was typed. */
  show(run) {
    const prompt = find("prompt");
    if (!prompt.value || prompt.value === this.own) prompt.value = run.prompt;
    this.own = run.prompt;
    find("ways").hidden = !run.fields.length;
    find(run.fields.length && this.way === "fields" ? "way-fields" : "way-prompt").checked = true;
    find("fields").replaceChildren(...run.fields.map((name) => fieldOf(name, this.typed.get(name) ?? "")));
    this.showWay();
  }

  focus() {
    (this.byPrompt ? find("prompt") : this.inputs[0]).focus();
  }

  showWay() {
    find("fields").hidden = this.byPrompt;
    find("prompt-part").hidden = !this.byPrompt;
  }

  get byPrompt() {
    return find("way-prompt").checked;
  }

  get inputs() {
    return [...find("fields").querySelectorAll("input")];
  }

  /** {text} or {fields}: those that are given. */
  get value() {
    if (this.byPrompt) return { text: find("prompt").value };
    const given = this.inputs.filter((input) => input.value.trim());
    return { fields: Object.fromEntries(given.map((input) => [input.dataset.name, input.value])) };
  }
}

function fieldOf(name, value) {
  const input = make("input", { placeholder: "left to the model", autocomplete: "off", value });
  input.dataset.name = name;
  return make("label", {}, `${name} `, input);
}
