// The engine of a page, in the page itself. A page knows only these calls; a server can answer the
// same ones:
//
//   tokenize(text)     → {ids, unknown}            unknown: words that are read as [UNK]
//   start(request)     → {text, finish_reason}     where to go on; request: {prompt, written, options, seed, index}
//   next()             → alternatives              what can come here, before and after the samplers
//   choose(id)         → token                     write this id, or without one the id that is drawn
//
// An alternative is {id, text, before, after}: probabilities; after is 0 where the samplers removed it.
// A token is {id, text, before, after, alternatives, finish_reason}: finish_reason is null while the
// text goes on, else "stop", "length" or "no_token_left", where id is null.

import { GPT } from "./gpt.js";
import { KneserNey, Mixture } from "./counts.js";
import { Recurrent } from "./lstm.js";
import { Uniforms } from "./rng.js";
import { checkOptions, draw, NoTokenLeft, process, total, weigh } from "./sampling.js";
import { StopWatch } from "./stopwatch.js";
import { Tokenizer } from "./tokenizer.js";
import { Windowed } from "./windowed.js";

const SHOWN = 12; // alternatives of a token

export class Engine {
  /** run: what the page says about the run (export/html_file.py) · arrays: its weights by name. */
  constructor(run, arrays) {
    this.run = run;
    this.tokenizer = new Tokenizer(run.tokenizer);
    this.model = openModel(run, arrays, this.tokenizer.size);
    this.states = [this.model.read(this.model.begin(), this.tokenizer.stop_id)];
    this.read = []; // the ids that the states have read: states[n] knows the first n
  }

  tokenize(text) {
    return this.tokenizer.encode(text);
  }

  /** Go on from a prompt and the ids already written after it. seed: a BigInt below 2^64. */
  start({ prompt, written = [], options = {}, seed = 0n, index = 0 }) {
    this.options = checkOptions(options);
    if (seed < 0n || seed >= 1n << 64n) throw new Error(`The seed ${seed} is not in 0 … 2^64-1: choose one that is.`);
    this.uniforms = new Uniforms(seed, index);
    const { ids } = this.tokenize(prompt);
    this.promptLength = ids.length;
    this.ids = ids;
    this.decoder = this.tokenizer.decoder(ids);
    this.watch = new StopWatch(this.options.stop);
    let text = "";
    let finish_reason = null;
    for (const id of written) {
      const taken = this.take(id);
      text += taken.text;
      finish_reason = taken.finish_reason;
    }
    return { text, finish_reason };
  }

  next() {
    return this.predict().alternatives;
  }

  choose(id = null) {
    const { before, after, alternatives } = this.predict();
    if (id === null && !after.sum) return { ...this.end("no_token_left"), alternatives };
    const chosen = id ?? this.drawn(after.weights);
    return { ...this.take(chosen), before: before.of(chosen), after: after.of(chosen), alternatives };
  }

  /**
   * What the model does where `target` comes after a prompt and the ids written after it: {seen, attention,
   * gates, saliency, shares, parts}, as the server's /api/inspect has it; null what the model has not.
   * Saliency needs gradients, which there are none of here.
   */
  inside({ prompt, written, target }) {
    const ids = [...this.tokenize(prompt).ids, ...written];
    const row = [this.tokenizer.stop_id, ...ids];
    const { seen, attention = null, gates = null } = this.model.inside?.(row) ?? { seen: row };
    const parts = this.model.parts?.(this.stateAfter(ids));
    const ofParts = (value) => parts && { neural: value(parts[0]), counts: value(parts[1]), memory: value(parts[2]) };
    return {
      seen: seen.map((id) => ({ id, text: this.spell(id) })),
      attention,
      gates,
      saliency: null,
      shares: ofParts(({ share }) => share) ?? null,
      parts: ofParts(({ p }) => p[target]) ?? null,
    };
  }

  drawn(weights) {
    if (this.options.temperature === 0) return weights.findIndex((weight) => weight > 0);
    return draw(weights, this.uniforms.at(this.ids.length - this.promptLength));
  }

  /** The distributions before and after the samplers, and the likeliest of both; of each place once. */
  predict() {
    if (this.predicted?.ids !== this.ids) this.predicted = { ids: this.ids, ...this.compute() };
    return this.predicted;
  }

  compute() {
    const logits = this.model.logits(this.stateAfter(this.ids));
    const before = new Distribution(weigh(logits));
    const after = new Distribution(this.processed(logits));
    const shown = new Set([...likeliest(before.weights), ...likeliest(after.weights)]);
    const alternatives = [...shown]
      .sort((one, other) => before.weights[other] - before.weights[one] || one - other)
      .map((id) => ({ id, text: this.spell(id), before: before.of(id), after: after.of(id) }));
    return { before, after, alternatives };
  }

  /** The weights that the draw is made from; all 0 if every token is banned. */
  processed(logits) {
    try {
      return weigh(process(logits, this.options, this.ids, this.promptLength, this.tokenizer.stop_id));
    } catch (error) {
      if (error instanceof NoTokenLeft) return new Float32Array(logits.length);
      throw error;
    }
  }

  /** The model's state after the stop id and these ids, from the longest part that was read before. */
  stateAfter(ids) {
    let same = 0;
    while (same < this.read.length && this.read[same] === ids[same]) same++;
    this.read.length = same;
    this.states.length = same + 1;
    for (const id of ids.slice(same)) {
      this.states.push(this.model.read(this.states.at(-1), id));
      this.read.push(id);
    }
    return this.states.at(-1);
  }

  /** Append the id, or end the text if it is the stop id. */
  take(id) {
    if (id === this.tokenizer.stop_id) return { ...this.end("stop"), id };
    this.ids = [...this.ids, id];
    const count = this.ids.length - this.promptLength;
    let text = this.decoder.push(id);
    let finish_reason = null;
    if (count >= this.options.max_new_tokens) {
      text += this.decoder.flush();
      finish_reason = "length";
    }
    if (count > this.options.min_new_tokens) {
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

  spell(id) {
    return id === this.tokenizer.stop_id ? "" : this.tokenizer.spell(id);
  }
}

/** Probabilities, as weights and their sum. */
class Distribution {
  constructor(weights) {
    this.weights = weights;
    this.sum = total(weights);
  }

  of(id) {
    return this.sum && this.weights[id] / this.sum;
  }
}

function openModel({ model, mixture }, arrays, vocabSize) {
  const counts = "counts.1.probability" in arrays ? new KneserNey(arrays, vocabSize) : null;
  if (model.family === "ngram") return counts;
  let neural = model.family === "gpt" ? new GPT(arrays, model) : new Recurrent(arrays);
  if (model.context_length) neural = new Windowed(neural, model.context_length);
  return counts ? new Mixture(neural, counts, mixture) : neural;
}

/** The ids of the largest weights above 0. */
function likeliest(weights) {
  const found = [];
  let least = 0;
  for (let id = 0; id < weights.length; id++) {
    if (weights[id] <= least) continue;
    let place = found.length;
    while (place && weights[found[place - 1]] < weights[id]) place--;
    found.splice(place, 0, id);
    if (found.length > SHOWN) found.pop();
    if (found.length === SHOWN) least = weights[found.at(-1)];
  }
  return found;
}
