// A model card, written in the little Markdown that textwright uses: headings, tables, lists, text.

import { make } from "./elements.js";

export function showCard(element, markdown) {
  const [, ...blocks] = markdown.split(/\n\n+/); // the first is the title, which the page has
  element.replaceChildren(...blocks.map(cardPart));
}

function cardPart(block) {
  const lines = block.trim().replaceAll("`", "").split("\n");
  if (block.startsWith("|")) return cardTable(lines);
  if (block.startsWith("#")) return make("h2", {}, lines[0].replace(/^#+ /, ""));
  return make("p", {}, lines.join(" ").replace(/^- /, ""));
}

function cardTable(lines) {
  const rows = lines.filter((line) => !/^[\s|-]+$/.test(line)); // without head and rule
  const cells = (line) => line.slice(1, -1).split("|").map((cell) => make("td", {}, cell.trim()));
  return make("table", {}, make("tbody", {}, ...rows.map((line) => make("tr", {}, ...cells(line)))));
}
