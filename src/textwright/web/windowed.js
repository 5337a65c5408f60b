// A model that looks back on so many ids: when one more would be too many, it keeps the newest half
// and goes on from there (writing/backend.py).

import { appended } from "./history.js";

export class Windowed {
  constructor(model, contextLength) {
    this.model = model;
    this.contextLength = contextLength;
  }

  begin() {
    return { ids: [], count: 0, inner: this.model.begin() };
  }

  read({ ids, count, inner }, id) {
    const all = appended(ids, count, id);
    const start = this.start(count + 1);
    if (start === this.start(count)) return { ids: all, count: count + 1, inner: this.model.read(inner, id) };
    const again = all.slice(start).reduce((state, each) => this.model.read(state, each), this.model.begin());
    return { ids: all, count: count + 1, inner: again };
  }

  logits({ inner }) {
    return this.model.logits(inner);
  }

  inside(ids) {
    return this.model.inside(ids.slice(this.start(ids.length)));
  }

  /** Where the view of a text begins, when `count` ids precede the one that is predicted. */
  start(count) {
    if (count <= this.contextLength) return 0;
    const half = Math.max(1, Math.floor(this.contextLength / 2));
    const room = this.contextLength + 1 - half;
    return (1 + Math.floor((count - this.contextLength - 1) / room)) * room;
  }
}
