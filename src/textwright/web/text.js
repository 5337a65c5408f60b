// A text while it is written: its ids, what of it can be shown, and why it ends (writing/text.py).

import { StopWatch } from "./stopwatch.js";

export class Text {
  constructor(tokenizer, promptIds, options) {
    this.stopId = tokenizer.stop_id;
    this.options = options;
    this.promptLength = promptIds.length;
    this.ids = [...promptIds];
    this.decoder = tokenizer.decoder(promptIds);
    this.watch = new StopWatch(options.stop);
  }

  /** The number of its new ids. */
  get count() {
    return this.ids.length - this.promptLength;
  }

  /** Append the id, or end the text if it is the stop id. */
  take(id) {
    if (id === this.stopId) return { ...this.end("stop"), id };
    this.ids.push(id);
    let text = this.decoder.push(id);
    let finish_reason = null;
    if (this.count >= this.options.max_new_tokens) {
      text += this.decoder.flush();
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
    const text = this.watch.push(this.decoder.flush()) + this.watch.flush();
    return { id: null, text, finish_reason };
  }
}
