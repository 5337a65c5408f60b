// Text to ids and back, as tokenizer/tokenizer.py does it: words, characters, symbols, byte-level BPE.

import { ByteJoiner, PlainJoiner, WordJoiner } from "./joining.js";
import { BLANK, SPACE, stripEnd } from "./white_space.js";

export const MARKS = "!-\\/:-@\\[-`{-~"; // ASCII punctuation
const PIECES = {
  "word tokens": new RegExp(`[${MARKS}]|[^${BLANK}${MARKS}]+`, "gu"),
  "word drop": new RegExp(`[^${BLANK}${MARKS}]+`, "gu"),
  "char tokens": /[^]/gu,
  "symbols tokens": new RegExp(`[^${BLANK}]+`, "gu"),
};

const GPT2 = new RegExp(
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`,
  "gu",
);
const CUTS = {
  "gpt-2": (text) => text.match(GPT2) ?? [],
  smollm: (text) => text.split(/(\p{N})/u).flatMap((part) => part.match(GPT2) ?? []),
  "llama-bpe": (text) => text.match(cutBy("\\p{N}{1,3}")) ?? [],
  qwen2: (text) => text.match(cutBy("\\p{N}")) ?? [],
  qwen35: (text) => text.match(cutBy("\\p{N}", "\\p{M}")) ?? [],
};

function cutBy(numbers, marks = "") {
  const endings = "'(?:[sS\\u017f]|[tTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])";
  return new RegExp(
    `${endings}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}${marks}]+|${numbers}| ?[^${SPACE}\\p{L}${marks}\\p{N}]+[\\r\\n]*` +
      `|[${SPACE}]*[\\r\\n]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`,
    "gu",
  );
}

/** The tokenizer that an export describes: kind, treatment, tokens in the order of their ids, merges. */
export class Tokenizer {
  constructor(described) {
    Object.assign(this, described); // kind, lowercase, punctuation, cut, stop_id, unknown_id, tokens
    this.ids = new Map(this.tokens.map((token, id) => [token, id]));
    this.ranks = new Map((described.merges ?? []).map((merge, rank) => [merge, rank]));
    this.merged = new Map(); // pieces already looked up
  }

  get size() {
    return this.tokens.length;
  }

  /** The ids of a text, and the words of it that the vocabulary lacks. */
  encode(text) {
    if (!text.isWellFormed()) throw new Error("The text holds half a character; remove it.");
    const pieces = this.split(text);
    if (this.kind === "bpe") return { ids: pieces.flatMap((piece) => this.merge(piece)), unknown: [] };
    const ids = pieces.map((piece) => this.ids.get(piece) ?? this.unknown_id);
    const unknown = new Set(pieces.filter((_, place) => ids[place] === this.unknown_id));
    return { ids, unknown: [...unknown] };
  }

  /**
   * The ids of a text that a word will follow (writing/form.py): byte-level tokens begin a word with the
   * space before it, so a last one is left to it.
   */
  encodeBeforeWord(text) {
    const open = text.endsWith(" ") ? text.slice(0, -1) : text;
    if (this.kind !== "bpe" || stripEnd(text) === text) return this.encode(open).ids;
    const pieces = this.split(`${text}a`);
    const last = pieces.pop(); // the word begins in it
    const ids = pieces.flatMap((piece) => this.merge(piece));
    let left = open === text ? new TextEncoder().encode(last).length - 1 : 0; // bytes before the word
    for (const id of this.merge(last)) {
      left -= this.tokens[id].length;
      if (left < 0) break;
      ids.push(id);
    }
    return ids;
  }

  /** The pieces of a text that tokens are made of. */
  split(text) {
    if (this.lowercase) text = Array.from(text, (letter) => letter.toLowerCase()).join("");
    if (this.kind === "bpe") return CUTS[this.cut](text);
    return text.match(PIECES[`${this.kind} ${this.punctuation}`]) ?? [];
  }

  /** The text of a token by itself; bytes of an incomplete character are written as \xc3. */
  spell(id) {
    const token = this.tokens[id];
    if (this.kind !== "bpe") return token;
    const bytes = bytesOf(token);
    const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    if (!text.includes("\ufffd")) return text;
    return Array.from(bytes, (byte) => (byte < 128 ? String.fromCharCode(byte) : `\\x${byte.toString(16)}`)).join("");
  }

  /** A decoder for the ids that follow those of the prompt, whose text it does not repeat. */
  decoder(promptIds = []) {
    const decoder = new Decoder(this);
    promptIds.forEach((id) => decoder.push(id));
    return decoder;
  }

  /** The ids of one piece: its bytes, and of all neighbors those merged first that were learned first. */
  merge(piece) {
    if (this.merged.has(piece)) return this.merged.get(piece);
    const letters = Array.from(new TextEncoder().encode(piece), (byte) => LETTERS[byte]);
    let parts = letters;
    if (this.ignore_merges && this.ids.has(letters.join(""))) parts = [letters.join("")];
    const lacking = parts.findIndex((part) => !this.ids.has(part));
    if (lacking >= 0) throw new Error(`The vocabulary cannot spell ${JSON.stringify(piece)}; remove it.`);
    while (parts.length > 1) {
      let best = Infinity;
      let place = -1;
      for (let at = 0; at + 1 < parts.length; at++) {
        const rank = this.ranks.get(`${parts[at]} ${parts[at + 1]}`);
        if (rank < best) [best, place] = [rank, at];
      }
      if (place < 0) break;
      parts = [...parts.slice(0, place), parts[place] + parts[place + 1], ...parts.slice(place + 2)];
    }
    const ids = parts.map((part) => this.ids.get(part));
    this.merged.set(piece, ids);
    return ids;
  }
}

class Decoder {
  constructor(tokenizer) {
    this.tokenizer = tokenizer;
    this.joiner = {
      word: () => new WordJoiner(),
      char: () => new PlainJoiner(""),
      symbols: () => new PlainJoiner(" "),
      bpe: () => new ByteJoiner(),
    }[tokenizer.kind]();
  }

  /** The text that this id makes final; empty for the stop id and for half a character. */
  push(id) {
    const { kind, stop_id, tokens } = this.tokenizer;
    if (id === stop_id) return "";
    return this.joiner.push(kind === "bpe" ? bytesOf(tokens[id]) : tokens[id]);
  }

  flush() {
    return this.joiner.flush();
  }
}

// The letter that stands for each byte in byte-level tokens: GPT-2 shows printable bytes as
// themselves and the others, in order, from U+0100 on.
const LETTERS = [];
for (let byte = 0, hidden = 0; byte < 256; byte++) {
  const shown = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  LETTERS.push(String.fromCharCode(shown ? byte : 0x100 + hidden++));
}
const BYTES = new Map(LETTERS.map((letter, byte) => [letter, byte]));

function bytesOf(token) {
  return Uint8Array.from(token, (letter) => BYTES.get(letter));
}
