// White space, as letters of a class of a pattern. JavaScript's own has U+FEFF, which is none, and lacks U+0085.

/** Unicode's. */
export const SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
/** That of Python's str.split and str.strip. */
export const BLANK = `${SPACE}\\x1c-\\x1f`;

const AT_START = new RegExp(`^[${BLANK}]+`, "u");
const AT_END = new RegExp(`[${BLANK}]+$`, "u");

export function stripStart(text) {
  return text.replace(AT_START, "");
}

export function stripEnd(text) {
  return text.replace(AT_END, "");
}

export function strip(text) {
  return stripStart(stripEnd(text));
}
