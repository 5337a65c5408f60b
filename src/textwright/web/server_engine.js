// The calls of engine.js, answered by the server that the page comes from.

import { json } from "./calls.js";
import { serverOptions } from "./changed.js";
import { readEvents } from "./events.js";
import { keepInWindow, readInWindow } from "./keeping.js";

const KEY = "textwright key"; // kept until the window is closed
const SHOWN_HERE = 12; // alternatives of a token

/** Thrown where the server wants a key, or another one. */
class KeyWanted extends Error {
  wantsKey = true;
}

export class ServerEngine {
  constructor() {
    this.told = new Map(); // by run: what the server says of it
    this.key = readInWindow(KEY);
  }

  useKey(key) {
    this.key = key;
  }

  /** Whether calls are made with a key. */
  get keyed() {
    return Boolean(this.key);
  }

  /** What the page says of each run. */
  async runs() {
    const { runs } = await (await this.ask("api/runs")).json();
    if (this.key) keepInWindow(KEY, this.key); // the server takes it
    for (const run of runs) this.told.set(run.name, run);
    return runs;
  }

  async tokenize({ run, text, fields }) {
    const answer = await this.ask("tokenize", { model: run, ...(fields ? { fields } : { prompt: text }) });
    const { tokens, unknown, prompt } = await answer.json();
    return { ids: tokens, unknown, text: prompt };
  }

  async *write(request, signal) {
    const wanted = { seed: request.seed, stream: true, logprobs: 0, return_token_ids: true };
    const answer = await this.ask("v1/completions", { ...this.bodyOf(request), ...wanted }, signal);
    for await (const { error, choices } of readEvents(answer.body)) {
      if (error) throw new Error(error.message);
      yield this.tokenOf(request.run, choices[0]);
    }
  }

  async alternatives(request, signal) {
    const { next } = await this.inspect(request, { top: SHOWN_HERE }, signal);
    const stop = this.told.get(request.run).tokenizer.stop_id;
    return next.map((other) => (other.id === stop ? { ...other, text: "" } : other));
  }

  inside(request, signal) {
    return this.inspect(request, { inside: true, saliency: true, top: 1 }, signal);
  }

  async inspect(request, wanted, signal) {
    const { max_tokens, ...body } = this.bodyOf(request);
    return (await this.ask("api/inspect", { ...body, target: request.target, ...wanted }, signal)).json();
  }

  /** A token of a streamed part. The end has no id there, and no entry where no token could come. */
  tokenOf(run, { text, token_ids, logprobs, finish_reason }) {
    const [logprob] = logprobs.token_logprobs;
    if (logprob === undefined) return { id: null, text, before: null, finish_reason: "no_token_left" };
    const { stop_id } = this.told.get(run).tokenizer;
    return { id: token_ids[0] ?? stop_id, text, before: Math.exp(logprob), finish_reason };
  }

  bodyOf({ run, prompt, fields, begin = [], options }) {
    const begun = fields ? { fields } : { prompt };
    return { model: run, ...begun, begin, ...serverOptions(options, this.told.get(run).options) };
  }

  /** The answer to a GET, or to a POST of a body. */
  async ask(path, body, signal) {
    const headers = { "Content-Type": "application/json" };
    const { key } = this;
    if (key && !/^[\x20-\x7e]*$/.test(key)) {
      throw new KeyWanted("A key has letters, digits and signs of ASCII alone: give the one that the server was started with.");
    }
    if (key) headers.Authorization = `Bearer ${key}`;
    const text = body && json(body);
    let answer;
    try {
      answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: text, signal });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Error("The server cannot be reached. Is it still running?");
    }
    if (answer.ok) return answer;
    const message = await answer.json().then(({ error }) => error.message, () => `The server answered ${answer.status}.`);
    throw answer.status === 401 ? new KeyWanted(key ? "The server does not take this key." : "") : new Error(message);
  }
}
