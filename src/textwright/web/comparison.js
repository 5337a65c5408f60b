// Two runs or two settings compared: side by side, or rated blind.

import { find, turnOff } from "./elements.js";
import { RatingView } from "./rating_view.js";
import { writeSideBySide } from "./side_by_side.js";
import { Sides } from "./sides.js";

export class Comparison {
  constructor(page) {
    this.page = page;
    this.sides = new Sides(page);
    this.rating = new RatingView(page, (work) => this.attempt("Writing a pair…", work));
    this.working = new AbortController();
    find("write-both").addEventListener("click", () => this.writeBoth());
    find("rate").addEventListener("click", () => this.rate());
    find("end-comparison").addEventListener("click", () => this.end("Stopped."));
    page.addEventListener("ready", () => {
      find("write-both").disabled = find("rate").disabled = false;
      this.rating.open();
    });
  }

  async writeBoth() {
    this.end("");
    const written = await this.attempt("Writing both…", (signal) =>
      writeSideBySide(this.page, this.sides.both(), find("side-by-side"), signal),
    );
    if (written) this.end("Both are written.");
  }

  rate() {
    this.end("");
    find("side-by-side").replaceChildren();
    this.attempt("", (signal) => this.rating.begin(this.sides.both(), signal));
  }

  /** End what is being done. */
  end(message) {
    this.working.abort();
    this.rating.end();
    turnOff(find("end-comparison"), find("rate"));
    this.say(message);
  }

  /** Do work that ends when its signal says so → whether it came to its end. */
  async attempt(message, work) {
    this.working.abort();
    const { signal } = (this.working = new AbortController());
    find("end-comparison").disabled = false;
    this.say(message);
    try {
      await work(signal);
      if (!signal.aborted) this.say("");
    } catch (error) {
      if (signal.aborted) return false;
      this.end("");
      this.say(error.message, true);
      this.page.askKey(error);
      return false;
    }
    return !signal.aborted;
  }

  say(message, failed = false) {
    find("comparison-status").textContent = message;
    find("comparison-status").classList.toggle("error", failed);
  }
}
