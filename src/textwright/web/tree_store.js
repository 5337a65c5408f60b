// Where a tree stays while its page is closed: in the browser, for each run.

import { readTexts, Tree } from "./tree.js";

/** The tree that was kept for a run, and what went wrong, if anything. */
export function openTree(run) {
  try {
    const kept = localStorage.getItem(keyOf(run));
    return { tree: new Tree(kept ? readTexts(JSON.parse(kept)) : []), problem: "" };
  } catch {
    return { tree: new Tree(), problem: "This browser keeps nothing for this page: save your texts before you leave." };
  }
}

/** Keep the tree → what went wrong, if anything. */
export function keepTree(run, tree) {
  try {
    if (tree.texts.length) localStorage.setItem(keyOf(run), JSON.stringify(tree));
    else localStorage.removeItem(keyOf(run));
    return "";
  } catch (error) {
    return error.name === "QuotaExceededError"
      ? "The browser has no room for more texts: save them, and delete some."
      : "This browser keeps nothing for this page: save your texts before you leave.";
  }
}

/** Runs of one name may differ, and ids mean nothing to another vocabulary. */
function keyOf({ name, title, tokenizer }) {
  return `textwright texts: ${name}, ${title}, ${tokenizer.kind} ${tokenizer.size}`;
}
