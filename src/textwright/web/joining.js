// Tokens back to text, one at a time, by the rules of tokenizer/decoding.py.

const CLOSING = new Set(",.;:!?)]}%");
const OPENING = new Set("([{$#");
const BINDING = new Set("-/@\\");
const QUOTING = new Set("\"'_");
const AFTER_HANGING_HYPHEN = new Set(["to", "by", "or", "and"]);
const AFTER_APOSTROPHE = new Set(["s", "t", "d", "m", "ll", "re", "ve", "er", "en", "st"]);
const BEFORE_APOSTROPHE = new Set(["d", "l", "o"]);
// Python's str.isdigit: decimal digits, and those in superscripts, circles and the like.
const DIGITS =
  /^[\p{Nd}\u00b2\u00b3\u00b9\u1369-\u1371\u19da\u2070\u2074-\u2079\u2080-\u2089\u2460-\u2468\u2474-\u247c\u2488-\u2490\u24ea\u24f5-\u24fd\u24ff\u2776-\u277e\u2780-\u2788\u278a-\u2792\u{10a40}-\u{10a43}\u{10e60}-\u{10e68}\u{11052}-\u{1105a}\u{1f100}-\u{1f10a}]+$/u;

/** Joins tokens by one separator: none for characters, a space for symbols. */
export class PlainJoiner {
  constructor(separator) {
    this.separator = separator;
    this.begun = false;
  }

  push(token) {
    const text = this.begun ? this.separator + token : token;
    this.begun = true;
    return text;
  }

  flush() {
    return "";
  }
}

/** Joins byte-level tokens, given as bytes, and holds back those of a character that is not whole. */
export class ByteJoiner {
  constructor() {
    this.decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  }

  push(bytes) {
    return this.decoder.decode(bytes, { stream: true });
  }

  flush() {
    return this.decoder.decode();
  }
}

/** Joins words and punctuation readably. */
export class WordJoiner {
  constructor() {
    this.beforeLast = "";
    this.last = "";
    this.spaceNext = false; // the last token allows a space after it
    this.open = new Set(); // quotation marks that are still open
  }

  push(token) {
    const [before, after] = this.spacing(token);
    const spaced = (before && this.spaceNext) || this.followsHangingHyphen(token);
    [this.beforeLast, this.last, this.spaceNext] = [this.last, token, after];
    return spaced ? ` ${token}` : token;
  }

  flush() {
    return "";
  }

  /** Where the token allows a space: before it, after it. */
  spacing(token) {
    const { last } = this;
    if (QUOTING.has(token)) {
      const inch = token === '"' && isDigits([...last].at(-1) ?? "");
      const apostrophe = token === "'" && isWord(last);
      if (!this.open.has(token) && (inch || apostrophe)) return [false, true];
      if (!this.open.delete(token)) this.open.add(token);
      const opened = this.open.has(token);
      return [opened, !opened];
    }
    if (CLOSING.has(token)) return [false, true];
    if (OPENING.has(token)) return [true, false];
    if (BINDING.has(token)) {
      const bound = isWord(last) || CLOSING.has(last) || BINDING.has(last) || QUOTING.has(last);
      return [!bound, !bound];
    }
    return [!this.continues(token), true];
  }

  followsHangingHyphen(word) {
    return this.last === "-" && isDigits(this.beforeLast) && AFTER_HANGING_HYPHEN.has(word.toLowerCase());
  }

  /** Whether the word forms one expression with the two tokens before it, as in 3.5. */
  continues(word) {
    const [left, mark] = [this.beforeLast, this.last];
    if (mark === "'") {
      const contracted = isWord(left) && AFTER_APOSTROPHE.has(word.toLowerCase());
      return contracted || BEFORE_APOSTROPHE.has(left.toLowerCase());
    }
    const numbers = isDigits(left) && isDigits(word);
    if (mark === ",") return numbers && count(word) === 3;
    if (mark === ":") return numbers && count(left) <= 2 && count(word) === 2;
    if (mark === "." && isDigits(left)) return numbers;
    return mark === "." && /^\p{L}$/u.test(left) && /^\p{L}$/u.test(word);
  }
}

function isWord(token) {
  return /^[0-9A-Za-z\u0080-\uffff]/.test(token);
}

function isDigits(text) {
  return DIGITS.test(text);
}

function count(text) {
  return [...text].length;
}
