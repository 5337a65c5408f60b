// The call that does the same as Write, to copy.

import { makeCalls } from "./calls.js";
import { find } from "./elements.js";

/** page: page.js, whose settings it shows. */
export class CallsView {
  constructor(page) {
    this.page = page;
    find("calls").addEventListener("toggle", () => this.update());
    find("call-kinds").addEventListener("change", () => this.update());
    find("form").addEventListener("input", () => this.update());
    find("form").addEventListener("change", () => this.update());
    find("copy-call").addEventListener("click", () => this.copy());
    for (const event of ["run", "text"]) page.addEventListener(event, () => this.update());
  }

  update() {
    const { page } = this;
    if (!find("calls").open || !page.run) return;
    const { text: prompt, fields } = page.beginning.value;
    const { options, seed } = page.settings;
    const kind = find("call-kinds").elements.kind.value;
    const calls = makeCalls({ prompt, fields, options, seed }, page.run, page.side.address, page.side.keyed());
    find("call").textContent = calls.find(({ name }) => name === kind).text;
    find("copied").textContent = "";
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(find("call").textContent);
      find("copied").textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(find("call"));
      find("copied").textContent = "It is marked: copy it with Ctrl+C.";
    }
  }
}
