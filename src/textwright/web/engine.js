// The engine of a page, in the page itself. A page knows only four calls, which a server answers as
// well (server_engine.js); `run` names one of those that can write:
//
//   tokenize({run, text})    → {ids, unknown, text}   unknown: words that are read as [UNK]
//   write(request, signal)   → tokens, as they are written; signal ends it
//   alternatives(request, signal) → what can come after `begin`, before and after the samplers, and `target`
//   inside(request, signal)  → what the model does where `target` comes after `begin`: {seen, attention,
//                              gates, saliency, shares, parts}, as the server's /api/inspect has it; null
//                              what the model lacks, and saliency here: it needs gradients
//
// A request is {run, prompt, fields, begin, options, seed, target}. fields: of the run's template, in place of
// a prompt, or of a text that is read; `text` is then what they make a document begin with · begin:
// ids that the text begins with; they come as the first of its tokens · target: an id that is to be
// among the alternatives.
// A token is {id, text, before, finish_reason}. before: its probability, before the samplers; of those
// of `begin` it can be null · finish_reason: null while the text goes on, else "stop", "length" or
// "no_token_left", where id is null.
// An alternative is {id, text, before, after}; after is 0 where the samplers removed it.

import { KneserNey, Mixture } from "./counts.js";
import { Form } from "./form.js";
import { GPT } from "./gpt.js";
import { Recurrent } from "./lstm.js";
import { Reading } from "./reading.js";
import { Uniforms } from "./rng.js";
import { checkOptions, draw, NoTokenLeft, process, total, weigh } from "./sampling.js";
import { Text } from "./text.js";
import { Tokenizer } from "./tokenizer.js";
import { stripEnd } from "./white_space.js";
import { Windowed } from "./windowed.js";

const SHOWN = 12; // alternatives of a token

export class Engine {
  /** described: model, tokenizer, mixture, form (export/html_payload.py) · arrays: the weights by name. */
  constructor(described, arrays) {
    this.tokenizer = new Tokenizer(described.tokenizer);
    this.form = described.form ? new Form(described.form, this.tokenizer) : null;
    const model = openModel(described, arrays, this.tokenizer.size);
    this.reading = new Reading(model, this.tokenizer.stop_id); // of the newest text
  }

  tokenize({ text, fields = null }) {
    const { guide, ...begun } = this.begin(text, fields);
    return begun;
  }

  /** What a text goes on from: {text, ids, unknown, guide}; of fields, or of a text. */
  begin(text, fields) {
    if (fields && !this.form) throw new Error("This model has no fields: begin with words.");
    if (fields) return this.form.begin(fields);
    const spaced = ["word", "symbols"].includes(this.tokenizer.kind); // tokens bring the space before them
    return { ...this.tokenizer.encode(text), text: spaced ? stripEnd(text) : text };
  }

  *write({ begin = [], seed = 0n, ...request }) {
    if (seed < 0n || seed >= 1n << 64n) throw new Error(`The seed ${seed} is not in 0 … 2^64-1: choose one that is.`);
    const uniforms = new Uniforms(seed);
    const text = this.open(request);
    const reading = (this.reading = this.reading.fork());
    for (let token = null; !token?.finish_reason; ) {
      const given = text.forcedId === null ? begin[text.count] : undefined;
      token = given === undefined ? this.next(text, reading, uniforms) : { ...text.take(given), before: null };
      yield token;
    }
  }

  alternatives({ begin = [], target = null, ...request }) {
    const text = this.open(request);
    begin.forEach((id) => text.take(id));
    this.reading = this.reading.fork();
    const { before, after } = this.predict(text, this.reading);
    const shown = new Set([...likeliest(before.weights), ...likeliest(after.weights)]);
    if (target !== null) shown.add(target);
    return [...shown]
      .sort((one, other) => before.weights[other] - before.weights[one] || one - other)
      .map((id) => ({ id, text: this.spell(id), before: before.of(id), after: after.of(id) }));
  }

  inside({ prompt, fields = null, begin = [], target }) {
    const ids = [...this.begin(prompt, fields).ids, ...begin];
    this.reading = this.reading.fork();
    const { model } = this.reading;
    const row = [this.tokenizer.stop_id, ...ids];
    const { seen, attention = null, gates = null } = model.inside?.(row) ?? { seen: row };
    const parts = model.parts?.(this.reading.after(ids));
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

  open({ prompt, fields = null, options = {} }) {
    const checked = checkOptions(options);
    const forbid = [...checked.forbid, ...(this.reading.model.lacking ?? [])];
    return new Text(this.tokenizer, this.begin(prompt, fields), { ...checked, forbid });
  }

  /** The next token of a text, forced or drawn. */
  next(text, reading, uniforms) {
    const { before, after } = this.predict(text, reading);
    const id = text.forcedId ?? this.drawn(after, text, uniforms);
    return id === null ? { ...text.end("no_token_left"), before: null } : { ...text.take(id), before: before.of(id) };
  }

  /** The id that is drawn; null if every token is banned. */
  drawn({ weights, sum }, text, uniforms) {
    if (!sum) return null;
    const sure = text.options.temperature === 0;
    return sure ? weights.findIndex((weight) => weight > 0) : draw(weights, uniforms.at(text.count));
  }

  /** The distributions of the next id, before and after the samplers. */
  predict(text, reading) {
    const logits = reading.logits(text.ids);
    return { before: new Distribution(weigh(logits)), after: new Distribution(this.processed(logits, text)) };
  }

  /** The weights that the draw is made from; all 0 if every token is banned. */
  processed(logits, { options, ids, promptLength, waits }) {
    try {
      return weigh(process(logits, options, ids, promptLength, this.tokenizer.stop_id, waits));
    } catch (error) {
      if (error instanceof NoTokenLeft) return new Float32Array(logits.length);
      throw error;
    }
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
