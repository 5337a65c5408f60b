// What stays in the browser while a page is closed, or, for as long as its window is open, loaded again.

const NOTHING_KEPT = "This browser keeps nothing for this page: save your work before you leave.";

/**
 * Have a function read the text that was kept under a key; null: nothing was. Returns what went wrong, if
 * anything. What cannot be read is copied beside, because the next thing to be kept takes its place.
 */
export function readKept(key, read) {
  let text;
  try {
    text = localStorage.getItem(key);
  } catch {
    return NOTHING_KEPT;
  }
  try {
    read(text);
    return "";
  } catch {
    const aside = `${key} (unreadable)`;
    return keep(aside, text) || `What this browser kept for this page cannot be read. It has a copy, named “${aside}”.`;
  }
}

/** Keep a text → what went wrong, if anything. */
export function keep(key, text) {
  try {
    localStorage.setItem(key, text);
    return "";
  } catch (error) {
    const full = error.name === "QuotaExceededError";
    return full ? "The browser has no room for more: save your work, and delete some of it." : NOTHING_KEPT;
  }
}

/** The text that was kept under a key until the window is closed; null: none was, or the browser keeps nothing. */
export function readInWindow(key) {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Keep a text until the window is closed, if the browser does. */
export function keepInWindow(key, text) {
  try {
    sessionStorage.setItem(key, text);
  } catch {
    // Whoever needs it has to type it again.
  }
}
