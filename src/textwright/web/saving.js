// A file that the page makes, for the person to keep.

import { make } from "./elements.js";

export function saveFile(name, content) {
  const href = URL.createObjectURL(new Blob([content], { type: "text/plain" }));
  make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}
