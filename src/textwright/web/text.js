// A text while it is written: its ids, what of it can be shown, and why it ends (writing/text.py).

import { StopWatch } from "./stopwatch.js";

export class Text {
  /** ids: of what it begins with · guide: to the rest of it (form.js), if there is one. */
  constructor(tokenizer, { ids, guide = null }, options) {
    this.stopId = tokenizer.stop_id;
    this.options = options;
    this.promptLength = ids.length;
    this.ids = [...ids];
    this.guide = guide;
    this.decoder = tokenizer.decoder(ids);
    this.watch = new StopWatch(options.stop);
  }

  /** The number of its new ids. */
  get count() {
    return this.ids.length - this.promptLength;
  }

  /** The id that comes next whatever the model predicts; null: the model chooses. */
  get forcedId() {
    return this.guide?.forcedId ?? null;
  }

  /** Whether a given field has yet to come, so that the stop token cannot end the text. */
  get waits() {
    return this.guide?.waits ?? false;
  }

  /** Append the id, or end the text if it is the stop id. */
  take(id) {
    if (id === this.stopId) return { ...this.end("stop"), id };
    this.ids.push(id);
    let text = this.decoder.push(id);
    if (this.guide) text = this.guide.push(text);
    let finish_reason = null;
    if (this.count >= this.options.max_new_tokens) {
      text += this.rest();
      finish_reason = "length";
    }
    if (this.count > this.options.min_new_tokens) {
      text = this.watch.push(text);
      if (this.watch.found) finish_reason = "stop";
      else if (finish_reason) text += this.watch.flush();
    }
    return { id, text, finish_reason };
  }

  /** End the text without another id; what was held back is shown. */
  end(finish_reason) {
    const text = this.watch.push(this.rest()) + this.watch.flush();
    return { id: null, text, finish_reason };
  }

  /** The text that was held back, when no id follows. */
  rest() {
    const rest = this.decoder.flush();
    return this.guide ? this.guide.flush(rest) : rest;
  }
}
