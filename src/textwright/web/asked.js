// Requests to an engine (engine.js).

/** The request for a text that begins with these tokens. */
export function asked({ run, prompt, fields, options, seed }, tokens) {
  return { run, prompt, fields, options, seed, begin: tokens.map(({ id }) => id) };
}
