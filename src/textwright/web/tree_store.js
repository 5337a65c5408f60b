// Where a tree stays while its page is closed: in the browser, for each run.

import { keep, readKept } from "./keeping.js";
import { readTexts, Tree } from "./tree.js";

/** The tree that was kept for a run, and what went wrong, if anything. */
export function openTree(run) {
  const { value, problem } = readKept(keyOf(run), readTexts);
  return { tree: new Tree(value ?? []), problem };
}

/** Keep the tree → what went wrong, if anything. */
export function keepTree(run, tree) {
  return keep(keyOf(run), tree.texts.length ? tree : null);
}

function keyOf(run) {
  return `textwright texts: ${identityOf(run)}`;
}

/** Runs of one name may differ, and ids mean nothing to another vocabulary. */
export function identityOf({ name, title, tokenizer }) {
  return `${name}, ${title}, ${tokenizer.kind} ${tokenizer.size}`;
}
