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

/** Copy a text, and say so in the element `said`; where that is not allowed, mark what shows it. */
export async function copyText(text, shownIn, said) {
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(shownIn);
    said.textContent = "It is marked: copy it with Ctrl+C.";
  }
}

/** A table with its caption. heads: texts · rows: lists of texts, of which the first names its row. */
export function makeTable(caption, heads, rows) {
  const head = heads.map((text) => make("th", { scope: "col" }, text));
  const cell = (text, place) => (place ? make("td", {}, text) : make("th", { scope: "row" }, text));
  const body = rows.map((row) => make("tr", {}, ...row.map(cell)));
  const parts = [make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)];
  return make("table", {}, make("caption", {}, caption), ...parts);
}
