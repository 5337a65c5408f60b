// The engine in a worker, so that the page never stalls. Answers {number, call, argument} with
// {number, result} or {number, error}; of `write`, with the tokens since the last answer, and `done`.
// A text goes on only while the page asks for `more`: a fast model would write more than it can show.

import { Engine } from "./engine.js";
import { readArrays } from "./weights.js";

const INTERVAL = 30; // milliseconds between two answers of a text: what the page can show
let engine;
const writing = new Map(); // by number of a text that is being written: what takes whether it goes on

const CALLS = {
  async open({ described, parts }) {
    engine = new Engine(described, readArrays(await unpack(parts)));
  },
  tokenize: (request) => engine.tokenize(request),
  alternatives: (request) => engine.alternatives(request),
  inside: (request) => engine.inside(request),
  more: (number) => writing.get(number)?.(true),
  end(number) {
    writing.get(number)?.(false);
    writing.delete(number);
  },
};

onmessage = async ({ data: { number, call, argument } }) => {
  try {
    if (call === "write") await write(number, argument);
    else postMessage({ number, result: await CALLS[call](argument) });
  } catch (error) {
    postMessage({ number, error: error.message });
  }
};

async function write(number, request) {
  let tokens = [];
  let wanted = true;
  let told = performance.now();
  for (const token of engine.write(request)) {
    tokens.push(token);
    if (performance.now() - told < INTERVAL) continue;
    if (!(await wanted)) return; // meanwhile other calls come in
    postMessage({ number, tokens });
    wanted = new Promise((resolve) => writing.set(number, resolve));
    tokens = [];
    told = performance.now();
  }
  writing.delete(number);
  postMessage({ number, tokens, done: true });
}

/** The bytes of gzip in base64, given in parts. */
export async function unpack(parts) {
  const packed = new Blob(parts.map(decode));
  return new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

function decode(base64) {
  const letters = atob(base64);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = letters.charCodeAt(at);
  return bytes;
}
