// Documents written around given fields of a run's template (writing/form.py).
//
// The tokens of a given field are forced; any other field is written by the model, until it writes the
// separator that the template puts after the field.

import { overlap } from "./stopwatch.js";
import { MARKS } from "./tokenizer.js";
import { BLANK, strip, stripEnd, stripStart } from "./white_space.js";

export class Form {
  /** described: slots, literals, cleaning (export/html_payload.py). */
  constructor(described, tokenizer) {
    Object.assign(this, described); // literals: the texts before, between and after the slots
    this.tokenizer = tokenizer;
    // Whether tokens spell the separators of the template, letter by letter.
    this.spells = ["char", "bpe"].includes(tokenizer.kind) && !tokenizer.lowercase;
    this.fields = [...new Set(this.slots)];
    this.ends = this.literals.slice(1, -1).map((literal) => finder(literal, tokenizer)); // the last slot has none
  }

  /** The white space at the end of what follows a slot. */
  gap(slot) {
    const literal = this.literals[slot + 1];
    return literal.slice(stripEnd(literal).length);
  }

  /** What a document with these fields begins with, and the guide to the rest of it. */
  begin(given) {
    const values = this.check(given);
    const { text } = this.render(values);
    const unknown = [...values.values()].flatMap((value) => this.tokenizer.encode(value).unknown);
    return { text, ids: this.tokenizer.encodeBeforeWord(text), unknown, guide: new Filler(this, values) };
  }

  /** The given values by name, cleaned. Throws a sentence where one cannot be given. */
  check(given) {
    const values = new Map();
    for (const [name, value] of Object.entries(given)) {
      if (!this.fields.includes(name)) {
        throw new Error(`There is no field '${name}': the template has ${this.fields.join(", ")}.`);
      }
      values.set(name, strip(this.clean(value)));
      if (!values.get(name)) throw new Error(`The field ${name} is empty: give it a value, or leave it to the model.`);
    }
    if (values.size === this.fields.length) throw new Error("Every field is given: leave one for the model to write.");
    for (const [slot, end] of this.ends.entries()) {
      const name = this.slots[slot];
      if (!values.has(name)) continue;
      const value = values.get(name);
      const literal = this.literals[slot + 1];
      const found = end.exec(value + literal);
      if (found && found.index >= value.length) continue;
      throw new Error(
        `The field ${name} cannot be '${value}': the template puts '${strip(literal)}' after it, so its end could not be found.`,
      );
    }
    return values;
  }

  /** As the documents of the corpus were cleaned (corpus/documents.py). */
  clean(text) {
    const { ascii_only, strip_symbols, lowercase } = this.cleaning;
    let left = text.replace(/\r\n?/g, "\n").toWellFormed();
    if (ascii_only) left = left.replace(/[^\x00-\x7f]/g, "");
    left = Array.from(left).filter((letter) => !strip_symbols.includes(letter)).join("");
    return lowercase ? left.toLowerCase() : left;
  }

  /** The document from this slot to the first one without a value, and that slot. */
  render(values, slot = 0) {
    let text = slot ? "" : this.literals[0];
    for (; values.has(this.slots[slot]); slot++) text += values.get(this.slots[slot]) + this.literals[slot + 1];
    return { text, slot };
  }
}

/** Guides one text along a form. What is shown reads as the template does. */
class Filler {
  constructor(form, given) {
    this.form = form;
    this.values = new Map(given);
    this.forced = []; // ids
    this.slot = form.render(given).slot; // where the model writes
    this.last = form.slots.findLastIndex((name) => given.has(name));
    this.written = ""; // what it has written there that is not shown
    this.value = ""; // and what is
    this.given = ""; // what the forced ids stand for that is not shown
    this.begun = false; // whether some of it is shown
    this.certain = false; // whether the last id was forced
  }

  /** The next id of a given field, of what stands around it, or of the end of the form; else null. */
  get forcedId() {
    return this.forced[0] ?? null;
  }

  /** Whether a given field has yet to come. */
  get waits() {
    return this.slot < this.last;
  }

  /** Show a field when it has ended, with all that is certain after it; the last one as it comes. */
  push(text) {
    this.certain = this.forced.length > 0;
    if (this.certain) {
      this.forced.shift();
      return this.showGiven(Array.from(text).length);
    }
    this.written += text;
    if (this.slot === this.form.slots.length - 1) return this.show();
    const end = this.form.ends[this.slot].exec(this.written);
    return end && !this.isOpen(end) ? this.goOn(end) : this.showField();
  }

  /** Show what the model has written of a field that did not end. */
  flush(text) {
    if (!this.certain) this.written += text; // what a forced id stands for is given
    return this.show();
  }

  /** Whether what comes may still show that a separator is none (writing/form.py). */
  isOpen({ 0: end, index }) {
    const { form, slot } = this;
    const { kind } = form.tokenizer;
    if (!["char", "bpe"].includes(kind) || index + end.length < this.written.length) return false;
    return !end.endsWith(form.gap(slot)) && (kind === "char" || !this.values.has(form.slots[slot + 1]));
  }

  /** What can be no part of the separator. Words are shown when the field has ended. */
  showField() {
    const { form, written } = this;
    if (!form.spells) return "";
    const held = overlap(written, form.literals[this.slot + 1]);
    const certain = stripEnd(written.slice(0, written.length - held));
    this.written = written.slice(certain.length);
    const shown = this.begun ? certain : stripStart(certain);
    this.value += shown;
    this.begun ||= shown !== "";
    return shown;
  }

  /** So many characters of what is given, or the rest with the last of its ids. */
  showGiven(count) {
    const letters = Array.from(this.given);
    const [next = this.form.tokenizer.stop_id] = this.forced;
    const shown = next === this.form.tokenizer.stop_id ? letters.length : count;
    this.given = letters.slice(shown).join("");
    return letters.slice(0, shown).join("");
  }

  show() {
    const text = this.begun ? this.written : stripStart(this.written);
    this.written = "";
    this.begun ||= text !== "";
    return text;
  }

  /** Go from the end of a field to where the model writes next; return what its ending token stands for. */
  goOn({ 0: end, index }) {
    const { form } = this;
    const gap = form.gap(this.slot);
    const own = stripEnd(this.written.slice(0, index));
    const left = this.begun ? own : stripStart(own);
    const rest = this.written.slice(index + end.length);
    let literal = form.literals[this.slot + 1];
    this.values.set(form.slots[this.slot], this.value + left);
    const { text: known, slot } = form.render(this.values, this.slot + 1);
    this.slot = slot;
    // The token that ended the field may hold more text. A given value replaces that text.
    this.written = known ? "" : rest;
    this.value = "";
    this.begun = false;
    if (known) {
      const missing = end.endsWith(gap) ? "" : gap;
      literal = literal.slice(0, literal.length - missing.length);
      this.given = missing + known;
      this.forced.push(...form.tokenizer.encodeBeforeWord(this.given));
    }
    if (slot === form.slots.length) this.forced.push(form.tokenizer.stop_id);
    return left + literal + this.showGiven(0);
  }
}

/** A pattern of a literal text, as far as a model can see it (tokenizer/treatment.py). */
function finder(literal, tokenizer) {
  const { kind, lowercase, punctuation } = tokenizer;
  const flags = lowercase ? "iu" : "u";
  if (kind === "word") {
    const letter = `[^${BLANK}${MARKS}]`;
    const isMark = new RegExp(`^[${MARKS}]$`);
    const alone = (word) => `(?<!${letter})${escaped(word)}(?!${letter})`;
    const pieces = tokenizer.split(literal).map((piece) => (isMark.test(piece) ? escaped(piece) : alone(piece)));
    const between = punctuation === "tokens" ? `[${BLANK}]*` : `[${BLANK}${MARKS}]*`;
    return new RegExp(`[${BLANK}]*${pieces.join(between)}[${BLANK}]*`, flags);
  }
  const symbols = kind === "symbols";
  const spaced = (text) => (symbols ? text.split(new RegExp(`[${BLANK}]+`, "u")) : [text]).map(escaped).join(`[${BLANK}]+`);
  const core = stripEnd(literal) || (symbols ? "" : literal);
  const after = literal.slice(core.length);
  return new RegExp(spaced(core) + (after && `(?:${spaced(after)}|$)`), flags);
}

/** Text as a part of a pattern that stands for itself. */
function escaped(text) {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}
