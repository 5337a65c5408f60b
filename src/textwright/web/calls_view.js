// The call that writes the text that is shown, or, once the form was changed, what Write would write: to copy.

import { makeCalls } from "./calls.js";
import { copyText, find } from "./elements.js";

/** page: page.js, whose settings it shows. */
export class CallsView {
  constructor(page) {
    this.page = page;
    this.text = null; // what the call writes; null: what the form says
    find("calls").addEventListener("toggle", () => this.update());
    find("call-kinds").addEventListener("change", () => this.update());
    for (const event of ["input", "change"]) find("form").addEventListener(event, () => this.follow(null));
    find("copy-call").addEventListener("click", () => {
      copyText(find("call").textContent, find("call"), find("copied"));
    });
    page.addEventListener("run", () => this.follow(null));
    page.addEventListener("text", () => {
      if (page.shownId !== this.shownId) this.follow(page.shown); // else it is the tree that has changed
      this.shownId = page.shownId;
    });
  }

  follow(text) {
    this.text = text;
    this.update();
  }

  update() {
    const { page } = this;
    if (!find("calls").open || !page.run) return;
    const kind = find("call-kinds").elements.kind.value;
    const request = this.text ? requestOf(this.text) : this.inForm();
    const calls = makeCalls(request, page.run, page.side.address, page.side.keyed());
    find("call").textContent = calls.find(({ name }) => name === kind).text;
    find("rounded").hidden = page.run.weights !== "int8"; // of an exported page
    find("copied").textContent = "";
  }

  inForm() {
    const { text: prompt, fields } = this.page.beginning.value;
    const { options, seed } = this.page.settings;
    return { prompt, fields, options, seed };
  }
}

/** What writes a text again. One that was kept by an earlier page does not say what it began with. */
function requestOf({ prompt, fields, options, seed, parent, place, tokens, begin }) {
  const branched = parent === null ? [] : tokens.slice(0, place + 1).map(({ id }) => id);
  const temperature = Number(options.temperature); // "Infinity" in JSON
  return { prompt, fields, begin: begin ?? branched, options: { ...options, temperature }, seed };
}
