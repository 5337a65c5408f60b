// Where a tree stays while its page is closed: in the browser, for each run. Two windows may show the
// same page, so each takes over what the other has kept before it keeps its own.

import { keep, readKept } from "./keeping.js";
import { readTexts, Tree } from "./tree.js";

const EMPTY = JSON.stringify(new Tree()); // where nothing was kept
const kept = new WeakMap(); // by tree: the text that it was last read from or kept as

/** The tree that was kept for a run, and what went wrong, if anything. */
export function openTree(run) {
  const tree = new Tree();
  kept.set(tree, EMPTY);
  return { tree, problem: joinTree(run, tree) };
}

/** Take over what another window has kept since → what went wrong, if anything. */
export function joinTree(run, tree) {
  return readKept(keyOf(run), (text) => {
    const known = kept.get(tree);
    if (text !== null && text !== known) tree.adopt(textsIn(known), textsIn(text));
    kept.set(tree, text ?? EMPTY); // a browser that lost it has it again when it is kept
  });
}

/** Keep the tree, joined with what another window has kept → what went wrong, if anything. */
export function keepTree(run, tree) {
  const problem = joinTree(run, tree);
  const text = JSON.stringify(tree);
  if (text === kept.get(tree)) return problem;
  const failed = keep(keyOf(run), text);
  if (!failed) kept.set(tree, text);
  return failed;
}

function textsIn(text) {
  return readTexts(JSON.parse(text));
}

function keyOf(run) {
  return `textwright texts: ${identityOf(run)}`;
}

/** Runs of one name may differ, and ids mean nothing to another vocabulary. */
export function identityOf({ name, title, tokenizer }) {
  return `${name}, ${title}, ${tokenizer.fingerprint.slice(0, 16)}`;
}
