// Passes text on until it contains one of the stop texts (writing/text.py).

/** Text that may still become a stop text is held back; of two, the one that is complete first counts. */
export class StopWatch {
  constructor(stops) {
    this.stops = stops;
    this.held = "";
    this.found = false;
  }

  /** What can be shown of the text so far: nothing of a stop text or of what follows it. */
  push(text) {
    if (this.found) return "";
    text = this.held + text;
    const ends = this.stops
      .map((stop) => ({ start: text.indexOf(stop), stop }))
      .filter(({ start }) => start >= 0)
      .map(({ start, stop }) => [start + stop.length, start])
      .sort(([end, start], [otherEnd, otherStart]) => end - otherEnd || start - otherStart);
    if (ends.length) {
      this.found = true;
      this.held = "";
      return text.slice(0, ends[0][1]);
    }
    const held = Math.max(0, ...this.stops.map((stop) => overlap(text, stop)));
    this.held = text.slice(text.length - held);
    return text.slice(0, text.length - held);
  }

  /** The text that was held back, when no more text follows. */
  flush() {
    const { held } = this;
    this.held = "";
    return held;
  }
}

/** The length of the longest end of the text that begins the stop text. */
export function overlap(text, stop) {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (stop.startsWith(text.slice(-length))) return length;
  }
  return 0;
}
