// Elements of the page.

export function find(id) {
  return document.getElementById(id);
}

/** An element with properties and what it contains. */
export function make(name, properties = {}, ...content) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...content);
  return element;
}

/** Turn a button off; if it has the focus, that goes to another element. */
export function turnOff(button, next) {
  if (document.activeElement === button) next.focus();
  button.disabled = true;
}

/** A table with its caption. heads: texts · rows: lists of texts, of which the first names its row. */
export function makeTable(caption, heads, rows) {
  const head = heads.map((text) => make("th", { scope: "col" }, text));
  const cell = (text, place) => (place ? make("td", {}, text) : make("th", { scope: "row" }, text));
  const body = rows.map((row) => make("tr", {}, ...row.map(cell)));
  const parts = [make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)];
  return make("table", {}, make("caption", {}, caption), ...parts);
}
