// Texts and the branches that go on from them: pure data, without a page.
//
// A text is {id, parent, place, run, prompt, fields, options, seed, tokens, name, kept}. prompt: what it
// follows, also where that came of fields · parent: the id of the text that it branched from, at the
// token number `place`; null for one that begins anew.
// A change puts new lists and new texts in place of old ones, so that it can be undone; only a text
// that is being written grows where it is.

const FORMAT = "textwright texts 1";
const CHANGES = 100; // that can be undone

export class Tree {
  constructor(texts = []) {
    this.texts = texts; // a text comes after the one that it branched from
    this.before = []; // what `texts` was before each change
  }

  /** Add a text → itself, with an id. */
  add(text) {
    const id = this.newId();
    const added = { parent: null, place: 0, name: "", kept: false, tokens: [], ...text, id };
    this.change([...this.texts, added]);
    return added;
  }

  newId() {
    return 1 + Math.max(0, ...[this.texts, ...this.before].flat().map(({ id }) => id));
  }

  get(id) {
    return this.texts.find((text) => text.id === id) ?? null;
  }

  branches(id) {
    return this.texts.filter((text) => text.parent === id);
  }

  /** All texts as they are read from top to bottom: {text, depth}, each before its branches. */
  walk(parent = null, depth = 0) {
    return this.branches(parent).flatMap((text) => [{ text, depth }, ...this.walk(text.id, depth + 1)]);
  }

  rename(id, name) {
    this.replace(id, { name });
  }

  keep(id, kept) {
    this.replace(id, { kept });
  }

  /** Delete a text with all its branches. */
  remove(id) {
    const gone = new Set([id, ...this.walk(id).map(({ text }) => text.id)]);
    this.change(this.texts.filter((text) => !gone.has(text.id)));
  }

  /** Delete all texts that are not kept; what is left branches from what is left. */
  removeOthers() {
    const left = this.texts.filter((text) => text.kept);
    const above = (id) => (id === null || this.get(id).kept ? id : above(this.get(id).parent));
    this.change(left.map((text) => ({ ...text, parent: above(text.parent) })));
  }

  get canUndo() {
    return this.before.length > 0;
  }

  /** Take back the newest change. */
  undo() {
    this.texts = this.before.pop() ?? this.texts;
  }

  replace(id, changed) {
    this.change(this.texts.map((text) => (text.id === id ? { ...text, ...changed } : text)));
  }

  change(texts) {
    this.before = [...this.before, this.texts].slice(-CHANGES);
    this.texts = texts;
  }

  /** The document that `take` reads. Seeds are written as text: they may exceed JSON's numbers. */
  toJSON() {
    return { format: FORMAT, texts: this.texts.map((text) => ({ ...text, seed: String(text.seed) })) };
  }

  /** Add the texts of a document. Throws a sentence where it is not one. */
  take(document) {
    const ids = new Map([[null, null]]); // new ids by those of the document
    const first = this.newId();
    const read = readTexts(document);
    read.forEach(({ id }, at) => ids.set(id, first + at));
    this.change([...this.texts, ...read.map((t) => ({ ...t, id: ids.get(t.id), parent: ids.get(t.parent) ?? null }))]);
  }

  /** All texts to be read, each under its name. */
  toText() {
    return this.walk()
      .map(({ text }) => `# ${nameOf(text)}\n\n${wholeText(text)}\n`)
      .join("\n");
  }
}

/** The texts of a document that `Tree` made. Throws a sentence where it is none. */
export function readTexts(document) {
  if (document?.format !== FORMAT || !Array.isArray(document.texts)) {
    throw new Error("This file holds no texts of textwright: choose one that was saved here as JSON.");
  }
  const known = new Set();
  return document.texts.map((text) => {
    if (!isText(text) || known.has(text.id) || (text.parent !== null && !known.has(text.parent))) {
      throw new Error("This file of texts is damaged: choose another.");
    }
    known.add(text.id);
    return { ...text, seed: BigInt(text.seed) };
  });
}

/** A short name: the one that was given, else how the text begins. */
export function nameOf(text) {
  if (text.name) return text.name;
  const own = text.tokens.slice(text.place).map((token) => token.text).join("");
  const words = (text.parent === null ? text.prompt + own : own).trim().replace(/\s+/g, " ");
  return words.length > 40 ? `${words.slice(0, 39)}…` : words || "(no text)";
}

/** Prompt and text as one. */
export function wholeText({ prompt, tokens }) {
  return prompt + tokens.map((token) => token.text).join("");
}

function isText(text) {
  return (
    Number.isInteger(text?.id) &&
    (text.parent === null || Number.isInteger(text.parent)) &&
    Number.isInteger(text.place) &&
    typeof text.run === "string" &&
    typeof text.prompt === "string" &&
    typeof text.options === "object" &&
    /^\d{1,20}$/.test(text.seed) &&
    typeof text.name === "string" &&
    typeof text.kept === "boolean" &&
    Array.isArray(text.tokens) &&
    text.tokens.every((token) => typeof token?.text === "string" && (token.id === null || Number.isInteger(token.id)))
  );
}
