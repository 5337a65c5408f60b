// Counts, alone or beside a neural model: Kneser-Ney (counts/kneser_ney.py), the memory of the text
// being read (counts/memory.py), and the mixture of all by evidence (counts/mixture.py).

import { appended } from "./history.js";

const NONE = -1; // in place of a node: the text has no such n-gram
const LONGEST = 3; // tokens of a context that the memory looks for
const DISCOUNT = 0.6;

/** An n-gram model. Its logits are log-probabilities; a state is the node of the newest 1, 2, … tokens. */
export class KneserNey {
  constructor(arrays, vocabSize) {
    this.vocabSize = vocabSize;
    this.levels = [];
    for (let n = 1; `counts.${n}.probability` in arrays; n++) {
      const of = (name) => arrays[`counts.${n}.${name}`]?.data;
      // The nodes of level n after parent p are those from begins[p] to begins[p + 1].
      const [begins, tokens, probability, backoff] = ["begins", "tokens", "probability", "backoff"].map(of);
      this.levels.push({ begins, tokens, probability, backoff });
    }
    const known = new Set(this.levels[1]?.tokens ?? Array(vocabSize).keys());
    this.lacking = Array.from(Array(vocabSize).keys()).filter((id) => !known.has(id)); // that the text never has
  }

  begin() {
    return Array(this.levels.length - 1).fill(NONE);
  }

  read(nodes, id) {
    return nodes.map((_, n) => (n === 0 ? id : this.find(n, nodes[n - 1], id)));
  }

  logits(nodes) {
    return new Float32Array(this.distribution(nodes).map(Math.log));
  }

  /** The probability of every token, (V,). */
  distribution(nodes) {
    const p = new Float64Array(this.vocabSize);
    let kept = 1; // for shorter contexts than the one at hand
    for (let n = nodes.length - 1; n >= 0; n--) {
      const node = nodes[n];
      if (node === NONE) continue;
      const { begins, tokens, probability } = this.levels[n + 1];
      for (let at = begins[node]; at < begins[node + 1]; at++) p[tokens[at]] += probability[at] * kept;
      kept *= this.levels[n].backoff[node];
    }
    const { probability } = this.levels[0];
    for (let id = 0; id < p.length; id++) p[id] += kept * probability[id];
    return p;
  }

  /** What is known of a context: tokens of its longest part that the text has, and γ of that part. */
  evidence(nodes) {
    const known = nodes.findLastIndex((node) => node !== NONE) + 1;
    return known ? [known, this.levels[known - 1].backoff[nodes[known - 1]]] : [0, 1];
  }

  /** The node at level n + 1 of a parent at level n followed by a token. */
  find(n, parent, id) {
    if (parent === NONE) return NONE;
    const { begins, tokens } = this.levels[n];
    let [low, high] = [begins[parent], begins[parent + 1]];
    const end = high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (tokens[middle] < id) low = middle + 1;
      else high = middle;
    }
    return low < end && tokens[low] === id ? low : NONE;
  }
}

/** A neural model with counts beside it; its logits are log-probabilities of the mixture. */
export class Mixture {
  /** weights (1 + E, 3): of the softmax that gives the shares of neural model, counts and memory ·
   *  powers: see `agree`. */
  constructor(neural, counts, { weights, powers }) {
    this.neural = neural;
    this.counts = counts;
    this.lacking = counts.lacking;
    this.weights = weights;
    this.powers = powers;
  }

  begin() {
    return { neural: this.neural.begin(), counts: this.counts.begin(), ids: [], count: 0 };
  }

  read({ neural, counts, ids, count }, id) {
    return {
      neural: this.neural.read(neural, id),
      counts: this.counts.read(counts, id),
      ids: appended(ids, count, id),
      count: count + 1,
    };
  }

  logits(state) {
    const [neural, counts, memory] = this.parts(state);
    return new Float32Array(neural.p.length).map((_, id) =>
      Math.log(neural.share * neural.p[id] + counts.share * counts.p[id] + memory.share * memory.p[id]),
    );
  }

  /** The neural model, the counts and the memory: {share, p (V,)} each. */
  parts({ neural, counts, ids, count }) {
    const logits = this.neural.logits(neural);
    const byCounts = this.counts.distribution(counts);
    const { p: byMemory, evidence } = recall(ids.slice(0, count), byCounts);
    const shares = this.shares([...this.counts.evidence(counts), ...evidence]);
    const agreed = agree(logits, byCounts, this.powers);
    return [softmax(logits), agreed, byMemory].map((p, part) => ({ share: shares[part], p }));
  }

  inside(ids) {
    return this.neural.inside(ids);
  }

  shares(evidence) {
    const [always, ...slopes] = this.weights;
    const added = (part) => slopes.reduce((sum, slope, kind) => sum + slope[part] * evidence[kind], 0);
    return softmax(always.map((weight, part) => weight + added(part)));
  }
}

/** What the counts and the neural model agree on: the product of powers of both, as a distribution. */
function agree(logits, byCounts, [ofNeural, ofCounts]) {
  return softmax(byCounts.map((p, id) => ofNeural * logits[id] + ofCounts * Math.log(p)));
}

/** The probability of every token after a text that begins with the stop id, and what is known of it. */
function recall(text, base) {
  let p = base;
  const evidence = Array.from({ length: 2 * LONGEST }, (_, kind) => kind % 2);
  for (let length = 0; length <= Math.min(LONGEST, text.length - 1); length++) {
    const counts = new Map();
    let followed = 0;
    for (let at = Math.max(1, length); at < text.length; at++) {
      let same = true;
      for (let back = 1; same && back <= length; back++) same = text[at - back] === text[text.length - back];
      if (!same) continue;
      counts.set(text[at], (counts.get(text[at]) ?? 0) + 1);
      followed++;
    }
    if (!followed) continue;
    const freed = DISCOUNT * counts.size;
    p = p.map((shorter) => (freed * shorter) / followed);
    for (const [id, count] of counts) p[id] += (count - DISCOUNT) / followed;
    if (length) evidence.splice(2 * length - 2, 2, Math.log1p(followed), counts.size / followed);
  }
  return { p, evidence };
}

function softmax(values) {
  let top = -Infinity;
  for (const value of values) if (value > top) top = value;
  const powers = new Float64Array(values.length);
  for (let at = 0; at < powers.length; at++) powers[at] = Math.exp(values[at] - top);
  let sum = 0;
  for (let at = 0; at < powers.length; at++) sum += powers[at];
  return powers.map((power) => power / sum);
}
