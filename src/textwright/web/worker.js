// The engine in a worker, so that the page never stalls: answers each {call, argument}, in their
// order, with {result} or {error}.

import { Engine } from "./engine.js";
import { readArrays } from "./weights.js";

let engine;

const CALLS = {
  async open({ run, parts }) {
    engine = new Engine(run, readArrays(await unpack(parts)));
  },
  tokenize: (text) => engine.tokenize(text),
  start: (request) => engine.start(request),
  next: () => engine.next(),
  choose: (id) => engine.choose(id),
};

let answered = Promise.resolve(); // calls wait until the weights are unpacked
onmessage = ({ data: { call, argument } }) => {
  answered = answered.then(async () => {
    try {
      const result = await CALLS[call](argument);
      postMessage({ result });
      if (call === "choose" && !result.finish_reason) lookAhead();
    } catch (error) {
      postMessage({ error: error.message });
    }
  });
};

/** Compute the next place while the page shows this one. */
function lookAhead() {
  try {
    engine.next();
  } catch {
    // The call for that place will meet the same error, and answer it.
  }
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
