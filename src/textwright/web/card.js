// A model card, written in the little Markdown that textwright uses: headings, tables, lists, text.

import { make } from "./elements.js";

export function showCard(element, markdown) {
  element.replaceChildren();
  const [, ...blocks] = markdown.split(/\n\n+/); // the first is the title, which the page has
  for (const block of blocks) {
    const lines = block.trim().replaceAll("`", "").split("\n");
    if (block.startsWith("|")) addTable(element, lines);
    else if (block.startsWith("#")) added(element, "h2", lines[0].replace(/^#+ /, ""));
    else added(element, "p", lines.join(" ").replace(/^- /, ""));
  }
}

function addTable(element, lines) {
  const body = added(added(element, "table"), "tbody");
  for (const line of lines.filter((line) => !/^[\s|-]+$/.test(line))) { // without head and rule
    const row = added(body, "tr");
    line.slice(1, -1).split("|").forEach((cell) => added(row, "td", cell.trim()));
  }
}

function added(parent, name, text = "") {
  const element = make(name, {}, text);
  parent.append(element);
  return element;
}
