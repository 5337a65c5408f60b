// The states of a model along a text, so that what was read once is not read again.

export class Reading {
  constructor(model, stopId) {
    this.model = model;
    this.ids = [];
    this.states = [model.read(model.begin(), stopId)]; // states[n] knows the first n ids
  }

  /** The same places, to go on from in another way. */
  fork() {
    return Object.assign(Object.create(Reading.prototype), {
      model: this.model,
      ids: [...this.ids],
      states: [...this.states],
    });
  }

  /** The logits of what follows the stop id and these ids. */
  logits(ids) {
    return this.model.logits(this.after(ids));
  }

  after(ids) {
    let same = 0;
    while (same < ids.length && same < this.ids.length && this.ids[same] === ids[same]) same++;
    if (same < ids.length) {
      this.ids.length = same;
      this.states.length = same + 1;
      for (const id of ids.slice(same)) {
        this.states.push(this.model.read(this.states.at(-1), id));
        this.ids.push(id);
      }
    }
    return this.states[ids.length];
  }
}
