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
