// Two texts side by side, from one beginning and seed, each of which can be taken to the page's texts.

import { make } from "./elements.js";
import { called, percent, ShadedText } from "./shaded_text.js";
import { nameSides } from "./sides.js";

/** Write a text for each side, and show both in the element while they grow. signal ends it. */
export async function writeSideBySide(page, sides, element, signal) {
  const request = await page.request();
  if (signal.aborted) return;
  const names = nameSides(sides);
  const columns = sides.map((side, place) => new Column(page, { ...request, ...side }, names[place], place));
  element.replaceChildren(...columns.map((column) => column.element));
  await Promise.all(columns.map((column) => column.write(signal)));
}

class Column {
  constructor(page, request, name, place) {
    this.page = page;
    this.request = request;
    this.tokens = [];
    const text = make("span", { tabIndex: 0, role: "listbox", ariaOrientation: "horizontal", ariaLabel: `The text of ${name}` });
    const given = make("span", { className: "given", textContent: request.prompt ?? "" });
    this.said = make("p", { className: "hint", ariaLive: "polite" });
    this.taking = make("button", { type: "button", textContent: "Take this to the texts above", disabled: true });
    const title = make("h3", {}, name);
    this.element = make("article", {}, title, make("p", { className: "story" }, given, text), this.said, this.taking);
    this.list = new ShadedText(text, `column-${place}`, (at) => this.tell(at));
    this.list.show(this.tokens);
    this.taking.addEventListener("click", () => page.take({ ...request, tokens: this.tokens }));
  }

  async write(signal) {
    for await (const token of this.page.engine.write(this.request, signal)) {
      if (signal.aborted) return;
      this.tokens.push(token);
      this.list.grow();
    }
    this.list.update();
    this.taking.disabled = false;
  }

  tell(at) {
    const token = this.tokens[at];
    const { id, before } = token;
    this.said.textContent = id === null ? "Nothing could come here." : `“${called(token)}” had a probability of ${percent(before)}`;
  }
}
