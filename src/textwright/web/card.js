// A model card, written in the little Markdown that textwright uses: headings, tables, lists, text.

export function showCard(element, markdown) {
  let table = null;
  for (const line of markdown.split("\n").slice(1)) { // the title is that of the page
    if (/^\|[\s|-]+\|$/.test(line)) continue;
    if (line.startsWith("|")) {
      table ??= added(element, "table", "");
      const row = added(table, "tr", "");
      line.slice(1, -1).split("|").forEach((cell) => added(row, "td", cell.trim()));
      continue;
    }
    table = null;
    if (line.trim()) added(element, line.startsWith("#") ? "h2" : "p", line.replace(/^#+ |^- /, "").replaceAll("`", ""));
  }
}

function added(parent, name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  parent.append(element);
  return element;
}
