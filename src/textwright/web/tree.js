// Texts and the branches that go on from them: pure data, without a page.
//
// A text is {id, parent, place, run, prompt, fields, begin, options, seed, tokens, name, kept}. prompt: what it
// follows, also where that came of fields · parent: the id of the text that it branched from, at the
// token number `place`; null for one that begins anew · begin: ids that it was begun with, also where what
// it branched from is gone; an earlier page did not keep them.
// A change puts new lists and new texts in place of old ones, so that it can be undone; only the tokens
// of a text that is being written grow where they are. What is written comes into all lists, those that an
// undo brings back too, so that no undo takes it away.

import { inJSON } from "./sampling.js";

const FORMAT = "textwright texts 1";
const CHANGES = 100; // that can be undone

export class Tree {
  constructor(texts = []) {
    this.texts = texts; // a text comes after the one that it branched from
    this.before = []; // what `texts` was before each change
  }

  /** Add a text, from a token on that its parent has: the one that it shares most with → itself, with an id. */
  add({ parent = null, place = 0, ...text }) {
    let above = this.get(parent);
    while (above && above.parent !== null && place <= above.place) above = this.get(above.parent);
    const id = newId();
    const added = { parent: above?.id ?? parent, place, name: "", kept: false, tokens: [], ...text, id };
    this.everywhere((texts) => rooted([...texts, added]));
    return this.get(id);
  }

  /** Go on with a text in its place: other options, and tokens to which more come → itself. */
  goOn(id, options, tokens) {
    this.everywhere((texts) => texts.map((text) => (text.id === id ? { ...text, options, tokens } : text)));
    return this.get(id);
  }

  /** The text that was written to its end after the same request, or null. */
  written(request) {
    const asked = sameness(request);
    return this.texts.find((text) => text.begin && text.tokens.at(-1)?.finish_reason && sameness(text) === asked) ?? null;
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

  /** Delete a text with its branches, but for those that are kept and their own. */
  remove(id) {
    const below = (id) => [id, ...this.branches(id).flatMap((text) => (text.kept ? [] : below(text.id)))];
    this.without(new Set(below(id)));
  }

  /** Delete all texts that are not kept. */
  removeOthers() {
    this.without(new Set(this.texts.filter((text) => !text.kept).map(({ id }) => id)));
  }

  /** Delete texts by their ids; what is left branches from what is left. */
  without(gone) {
    const left = this.texts.filter(({ id }) => !gone.has(id));
    this.change(left.map((text) => ({ ...text, ...this.branchWithout(gone, text) })));
  }

  /** Where a text branches from the nearest one above it that stays: {parent, place}. */
  branchWithout(gone, { parent, place }) {
    if (!gone.has(parent)) return { parent, place };
    const above = this.get(parent);
    return this.branchWithout(gone, { parent: above.parent, place: Math.min(place, above.place) });
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

  /** Do to the texts, and to what an undo brings back, what an undo leaves. */
  everywhere(work) {
    this.texts = work(this.texts);
    this.before = this.before.map(work);
  }

  change(texts) {
    this.before = [...this.before, this.texts].slice(-CHANGES);
    this.texts = rooted(texts);
  }

  /** Change as another tree did, from these texts to those, here and in all that an undo brings back. */
  adopt(from, to) {
    const old = new Map(from.map((text) => [text.id, JSON.stringify(plain(text))]));
    const now = new Set(to.map(({ id }) => id));
    const changed = new Set(to.filter((text) => old.get(text.id) !== JSON.stringify(plain(text))));
    const adopted = (texts) => {
      const here = new Map(texts.map((text) => [text.id, text]));
      const theirs = to.filter(({ id }) => here.has(id) || !old.has(id)); // without what was deleted here
      const own = texts.filter(({ id }) => !old.has(id) && !now.has(id));
      return rooted([...theirs.map((text) => (changed.has(text) ? text : here.get(text.id))), ...own]);
    };
    this.everywhere(adopted);
  }

  /** The document that `take` reads. */
  toJSON() {
    return { format: FORMAT, texts: this.texts.map(plain) };
  }

  /**
   * Add the texts of a document. Throws a sentence where it holds none, or those of another run. identity: of
   * the run; a document that was saved without one is taken by the name alone.
   */
  take(document, run, identity) {
    const read = readTexts(document);
    const other = read.find((text) => text.run !== run);
    if (other) throw new Error(`This file holds texts of the run ${other.run}: open it on the page of that run.`);
    if ((document.identity ?? identity) !== identity) {
      throw new Error(`This file holds texts of another run named ${run}, with other tokens: open it on the page of that run.`);
    }
    const ids = new Map(read.map(({ id }) => [id, newId()])); // new ids by those of the document
    this.change([...this.texts, ...read.map((t) => ({ ...t, id: ids.get(t.id), parent: ids.get(t.parent) ?? null }))]);
  }

  /** All texts to be read, each under its name. */
  toText() {
    return this.walk()
      .map(({ text }) => `# ${nameOf(text)}\n\n${wholeText(text)}\n`)
      .join("\n");
  }
}

/** Drawn, so that two windows never give the same. */
function newId() {
  return Math.floor(Math.random() * 2 ** 53);
}

/** Texts that all come after the one that they branched from; one that has lost it begins anew. */
function rooted(texts) {
  const known = new Set([null]);
  return texts.map((text) => {
    const { parent } = text;
    const lost = !known.has(parent);
    known.add(text.id);
    return lost ? { ...text, parent: null, place: 0 } : text;
  });
}

/** What decides how a text goes on. */
function sameness({ run, prompt, fields, begin, options, seed }) {
  return JSON.stringify([run, prompt, fields ?? null, begin, inJSON(options), String(seed)]);
}

/** A text as JSON has it: seeds may exceed its numbers. */
function plain(text) {
  return { ...text, seed: String(text.seed), options: inJSON(text.options) };
}

/** The texts of a document that `Tree` made. Throws a sentence where it is none. */
export function readTexts(document) {
  if (document?.format !== FORMAT || !Array.isArray(document.texts)) {
    throw new Error("This file holds no texts of textwright: choose one that was saved here as JSON.");
  }
  const ids = new Set(document.texts.map((text) => text?.id));
  if (!document.texts.every(isText) || ids.size < document.texts.length) {
    throw new Error("This file of texts is damaged: choose another.");
  }
  return rooted(document.texts.map((text) => ({ ...text, seed: BigInt(text.seed) })));
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
    text.options !== null &&
    /^\d{1,20}$/.test(text.seed) &&
    typeof text.name === "string" &&
    typeof text.kept === "boolean" &&
    (text.begin === undefined || (Array.isArray(text.begin) && text.begin.every(Number.isInteger))) &&
    Array.isArray(text.tokens) &&
    text.tokens.every((token) => typeof token?.text === "string" && (token.id === null || Number.isInteger(token.id)))
  );
}
