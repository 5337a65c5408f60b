// How the next id is chosen: the steps of writing/sampling.py in their order, on one row of logits.
// Logits are float32, as there; a banned token has the logit -Infinity.

const RESOLUTION = 1e-6; // below this, sums of float32 probabilities are not exact
const { fround } = Math;

/** Thrown where every token is banned, so that a text cannot go on. */
export class NoTokenLeft extends Error {}

/** What every option is if nothing is said. Tokens in logit_bias and forbid are ids. */
export const DEFAULTS = {
  temperature: 1, top_k: 0, top_p: 1, min_p: 0, typical_p: 1,
  repetition_penalty: 1, presence_penalty: 0, frequency_penalty: 0, no_repeat_ngram: 0,
  logit_bias: [], forbid: [], min_new_tokens: 0, max_new_tokens: 100, stop: [],
};

const RANGES = {
  temperature: (x) => x >= 0,
  top_k: (x) => Number.isInteger(x) && x >= 0,
  top_p: (x) => x > 0 && x <= 1,
  min_p: (x) => x >= 0 && x <= 1,
  typical_p: (x) => x > 0 && x <= 1,
  repetition_penalty: (x) => x > 0 && x < Infinity,
  presence_penalty: Number.isFinite,
  frequency_penalty: Number.isFinite,
  no_repeat_ngram: (x) => Number.isInteger(x) && x >= 0,
  min_new_tokens: (x) => Number.isInteger(x) && x >= 0,
  max_new_tokens: (x) => Number.isInteger(x) && x >= 1,
};

/** The options with defaults filled in. Throws a sentence that names what is out of range. */
export function checkOptions(given) {
  const options = { ...DEFAULTS, ...given };
  options.temperature = Number(options.temperature); // "Infinity" in JSON
  for (const [name, fits] of Object.entries(RANGES)) {
    if (!fits(options[name])) throw new Error(`${name.replaceAll("_", " ")} cannot be ${options[name]}.`);
  }
  if (options.min_new_tokens > options.max_new_tokens) {
    throw new Error("The least number of new tokens should not exceed the most.");
  }
  return options;
}

/** Options as JSON has them, which has no number for infinity; `checkOptions` reads both. */
export function inJSON(options) {
  return options.temperature === Infinity ? { ...options, temperature: "Infinity" } : options;
}

/** Steps 1 to 7; ids: those of the prompt, then those of the text · waits: a given field has yet to come. */
function penalize(given, options, ids, promptLength, stopId, waits) {
  const logits = given.slice();
  for (const [id, bias] of options.logit_bias) logits[id] += fround(bias);
  for (const id of options.forbid) logits[id] = -Infinity;
  if (options.repetition_penalty !== 1) {
    const penalty = fround(options.repetition_penalty);
    for (const id of new Set(ids)) logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
  }
  if (options.presence_penalty || options.frequency_penalty) {
    const counts = new Map();
    for (const id of ids.slice(promptLength)) counts.set(id, (counts.get(id) ?? 0) + 1);
    for (const [id, count] of counts) {
      logits[id] -= fround(options.presence_penalty + options.frequency_penalty * count);
    }
  }
  for (const id of repeatingIds(ids, options.no_repeat_ngram)) logits[id] = -Infinity;
  if (waits || ids.length - promptLength < options.min_new_tokens) logits[stopId] = -Infinity;
  return logits;
}

/** The ids that, written next, would complete an n-gram that is there already. */
function repeatingIds(ids, n) {
  if (!n) return [];
  const newest = ids.length - n + 1;
  return ids.filter((_, end) => {
    if (end < n - 1) return false;
    for (let back = 1; back < n; back++) if (ids[end - back] !== ids[newest + n - 1 - back]) return false;
    return true;
  });
}

/** Steps 8 to 12: temperature, then the filters. */
function truncate(given, options) {
  const { temperature } = options;
  let logits = given;
  if (temperature !== 1 && temperature !== Infinity) logits = temper(logits, temperature);
  if (options.top_k) logits = keepTopK(logits, options.top_k);
  if (options.top_p < 1) logits = keepTopP(logits, options.top_p);
  if (options.min_p > 0) logits = atLeast(logits, fround(peak(logits) + fround(Math.log(options.min_p) - RESOLUTION)));
  if (options.typical_p < 1) logits = keepTypical(logits, options.typical_p);
  // The filters see the model's own distribution; what they leave is made flat.
  if (temperature === Infinity) logits = logits.map((logit) => (logit > -Infinity ? 0 : -Infinity));
  return logits;
}

/** Steps 1 to 12: the logits that the draw is made from. */
export function process(logits, options, ids, promptLength, stopId, waits) {
  return truncate(penalize(logits, options, ids, promptLength, stopId, waits), options);
}

/** Probabilities up to a factor, (V,) float32: the largest is 1. */
export function weigh(logits) {
  const top = peak(logits);
  const weights = new Float32Array(logits.length);
  for (let id = 0; id < weights.length; id++) {
    if (logits[id] > -Infinity) weights[id] = Math.exp(fround(logits[id] - top));
  }
  return weights;
}

export function total(weights) {
  let sum = 0;
  for (let id = 0; id < weights.length; id++) sum += weights[id];
  return sum;
}

/** The first id at which the cumulative probability exceeds `uniform`. */
export function draw(weights, uniform) {
  const target = uniform * total(weights);
  let running = 0;
  let last = 0;
  for (let id = 0; id < weights.length; id++) {
    if (!weights[id]) continue;
    running += weights[id];
    if (running > target) return id;
    last = id;
  }
  return last; // the target was rounded up to the whole
}

function temper(logits, temperature) {
  const top = peak(logits);
  if (temperature === 0) return only(logits, [logits.indexOf(top)]);
  const divisor = fround(Math.min(Math.max(temperature, 1e-30), 1e30));
  return logits.map((logit) => fround(logit - top) / divisor);
}

/** The k likeliest, and all that equal the k-th. */
function keepTopK(logits, k) {
  return k < logits.length ? atLeast(logits, logits.slice().sort()[logits.length - k]) : logits;
}

/** The fewest likeliest that together reach p; of equals, lower ids come first. */
function keepTopP(logits, p) {
  const weights = weigh(logits);
  const sum = total(weights);
  // Tokens below (1-p)/V have less than 1-p together, so only the others need sorting.
  const floor = ((1 - p) / logits.length) * sum;
  const likely = [];
  for (let id = 0; id < weights.length; id++) if (weights[id] >= floor) likely.push(id);
  likely.sort((one, other) => weights[other] - weights[one] || one - other);
  return only(logits, likely.slice(0, sufficient(likely, weights, p * sum)));
}

/** The tokens whose surprise is nearest the entropy, until they together reach p. */
function keepTypical(logits, p) {
  const weights = weigh(logits);
  const sum = total(weights);
  const top = peak(logits) + Math.log(sum);
  const possible = [];
  let entropy = 0;
  for (let id = 0; id < weights.length; id++) {
    if (!weights[id]) continue;
    possible.push(id);
    entropy += (weights[id] * (top - logits[id])) / sum;
  }
  const distance = (id) => Math.round(Math.abs(top - logits[id] - entropy) / RESOLUTION);
  const distances = new Map(possible.map((id) => [id, distance(id)]));
  possible.sort((one, other) => distances.get(one) - distances.get(other) || one - other);
  return only(logits, possible.slice(0, sufficient(possible, weights, p * sum)));
}

function peak(logits) {
  let top = -Infinity;
  for (let id = 0; id < logits.length; id++) {
    if (!(logits[id] <= top)) top = logits[id];
    if (Number.isNaN(top)) break;
  }
  if (top === -Infinity) throw new NoTokenLeft();
  if (!Number.isFinite(top)) {
    throw new Error("The model's logits are not finite numbers: its training diverged or its file is damaged.");
  }
  return top;
}

/** How many of the ranked ids are needed to reach the share. */
function sufficient(ranked, weights, share) {
  let sum = 0;
  const place = ranked.findIndex((id) => (sum += weights[id]) >= share * (1 - RESOLUTION));
  return place < 0 ? ranked.length : place + 1;
}

function only(logits, ids) {
  const kept = new Float32Array(logits.length).fill(-Infinity);
  for (const id of ids) kept[id] = logits[id];
  return kept;
}

function atLeast(logits, threshold) {
  return logits.map((logit) => (logit >= threshold ? logit : -Infinity));
}
