// What stays in the browser while a page is closed.

const NOTHING_KEPT = "This browser keeps nothing for this page: save your work before you leave.";

/** What was kept under a key, read by a function; null: nothing. And what went wrong, if anything. */
export function readKept(key, read) {
  try {
    const kept = localStorage.getItem(key);
    return { value: kept && read(JSON.parse(kept)), problem: "" };
  } catch {
    return { value: null, problem: NOTHING_KEPT };
  }
}

/** Keep a document, or with null nothing → what went wrong, if anything. */
export function keep(key, document) {
  try {
    if (document === null) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(document));
    return "";
  } catch (error) {
    const full = error.name === "QuotaExceededError";
    return full ? "The browser has no room for more: save your work, and delete some of it." : NOTHING_KEPT;
  }
}
