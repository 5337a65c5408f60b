// What a text begins with: words, or fields of the run's template, which the model writes around.

import { find, make } from "./elements.js";

export class Beginning {
  /** onChange(): called when it is another. */
  constructor(onChange) {
    for (const id of ["prompt", "fields"]) find(id).addEventListener("input", onChange);
    find("ways").addEventListener("change", () => {
      this.showWay();
      onChange();
    });
  }

  /** Begin as the run's own samples do. */
  show(run) {
    find("prompt").value = run.prompt;
    find("ways").hidden = !run.fields.length;
    find("way-prompt").checked = true;
    find("fields").replaceChildren(...run.fields.map(fieldOf));
    this.showWay();
  }

  showWay() {
    find("fields").hidden = this.byPrompt;
    find("prompt-part").hidden = !this.byPrompt;
  }

  get byPrompt() {
    return find("way-prompt").checked;
  }

  /** {text} or {fields}: those that are given. */
  get value() {
    if (this.byPrompt) return { text: find("prompt").value };
    const given = [...find("fields").querySelectorAll("input")].filter((input) => input.value.trim());
    return { fields: Object.fromEntries(given.map((input) => [input.dataset.name, input.value])) };
  }
}

function fieldOf(name) {
  const input = make("input", { placeholder: "left to the model", autocomplete: "off" });
  input.dataset.name = name;
  return make("label", {}, `${name} `, input);
}
