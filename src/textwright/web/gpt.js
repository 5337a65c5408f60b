// The attention family, by the equations of models/gpt.py, one token at a time.

import { appended } from "./history.js";
import { Matrix } from "./weights.js";

/** A GPT. A state is never changed, so a text can go on from any of its states. */
export class GPT {
  /** form: heads, shared_heads, scale, pre, normalization, epsilon, activation, layers (families/gpt.py). */
  constructor(arrays, form) {
    this.scale = form.scale;
    this.embedding = new Matrix(arrays, "embedding");
    this.positions = "positions" in arrays ? new Matrix(arrays, "positions") : null;
    this.frequencies = arrays.frequencies?.data; // of rotary positions, radians from place to place
    this.blocks = Array.from({ length: form.layers }, (_, i) => new Block(arrays, `blocks.${i}.`, form));
    this.norm = form.pre ? makeNorm(arrays, "norm.", form) : (x) => x;
    const output = "output.weight" in arrays ? "output.weight" : "embedding";
    this.output = new Matrix(arrays, output, "output.bias");
  }

  begin() {
    return { history: [], count: 0, hidden: null };
  }

  /** The state after one more id. attention: lists, one a layer, that are given each head's shares. */
  read({ history, count }, id, attention = []) {
    let x = this.embedding.row(id);
    if (this.scale !== 1) x = x.map((value) => value * this.scale);
    if (this.positions) x = add(x, this.positions.row(count));
    const waves = this.wavesAt(count);
    const places = appended(history, count, []);
    this.blocks.forEach((block, layer) => {
      x = block.step(x, layer, places, waves, attention[layer]);
    });
    return { history: places, count: count + 1, hidden: x };
  }

  /** How the last of these ids shares its attention among all: {seen: ids, attention: of each layer, each head}. */
  inside(ids) {
    const before = ids.slice(0, -1).reduce((state, id) => this.read(state, id), this.begin());
    const attention = this.blocks.map(() => []);
    this.read(before, ids.at(-1), attention);
    return { seen: ids, attention };
  }

  /** What the state predicts, (V,) float32. */
  logits({ hidden }) {
    return this.output.times(this.norm(hidden));
  }

  wavesAt(place) {
    if (!this.frequencies) return null;
    const angles = this.frequencies.map((frequency) => place * frequency);
    return { cosines: angles.map(Math.cos), sines: angles.map(Math.sin) };
  }
}

/** Attention and feed-forward of one block. */
class Block {
  constructor(arrays, prefix, form) {
    const matrix = (name) => new Matrix(arrays, `${prefix}${name}.weight`, `${prefix}${name}.bias`);
    this.form = form;
    this.attentionInput = matrix("attention.input");
    this.attentionOutput = matrix("attention.output");
    this.feedforwardInput = matrix("feedforward.input");
    this.feedforwardOutput = matrix("feedforward.output");
    this.attentionNorm = makeNorm(arrays, `${prefix}attention_norm.`, form);
    this.feedforwardNorm = makeNorm(arrays, `${prefix}feedforward_norm.`, form);
    const ofHeads = { ...form, normalization: "rms" };
    if (`${prefix}attention.query_norm.weight` in arrays) {
      this.queryNorm = makeNorm(arrays, `${prefix}attention.query_norm.`, ofHeads);
      this.keyNorm = makeNorm(arrays, `${prefix}attention.key_norm.`, ofHeads);
    }
    this.activate = { relu, gelu, swiglu }[form.activation];
  }

  /** x (D,) → the block's output (D,); adds this place's keys and values of the layer to the history. */
  step(x, layer, history, waves, shares) {
    const found = this.attend(this.form.pre ? this.attentionNorm(x) : x, layer, history, waves, shares);
    let attended = add(x, this.attentionOutput.times(found));
    if (!this.form.pre) attended = this.attentionNorm(attended);
    const inside = this.feedforwardInput.times(this.form.pre ? this.feedforwardNorm(attended) : attended);
    const sum = add(attended, this.feedforwardOutput.times(this.activate(inside)));
    return this.form.pre ? sum : this.feedforwardNorm(sum);
  }

  attend(x, layer, history, waves, shares) {
    const { heads, shared_heads: shared, key_width: width, value_width: valueWidth } = this.form;
    const given = this.attentionInput.times(x);
    const queries = this.turned(given.subarray(0, heads * width), this.queryNorm, waves);
    const keys = this.turned(given.subarray(heads * width, (heads + shared) * width), this.keyNorm, waves);
    history.at(-1)[layer] = { keys, values: given.subarray((heads + shared) * width) };
    const scale = width ** -0.5;
    const found = new Float32Array(heads * valueWidth);
    const scores = new Float64Array(history.length);
    for (let head = 0; head < heads; head++) {
      const group = Math.floor((head * shared) / heads);
      let top = -Infinity;
      for (let place = 0; place < history.length; place++) {
        const { keys: then } = history[place][layer];
        let score = 0;
        for (let k = 0; k < width; k++) score += queries[head * width + k] * then[group * width + k];
        scores[place] = score * scale;
        if (scores[place] > top) top = scores[place];
      }
      let sum = 0;
      for (let place = 0; place < history.length; place++) sum += scores[place] = Math.exp(scores[place] - top);
      for (let place = 0; place < history.length; place++) {
        const { values } = history[place][layer];
        const share = scores[place] / sum;
        for (let k = 0; k < valueWidth; k++) found[head * valueWidth + k] += share * values[group * valueWidth + k];
      }
      shares?.push(Array.from(scores, (score) => score / sum));
    }
    return found;
  }

  /** Queries or keys of all heads, normalized and rotated where the model does so. */
  turned(vectors, norm, waves) {
    const width = this.form.key_width;
    const turned = new Float32Array(vectors.length);
    for (let at = 0; at < vectors.length; at += width) {
      const vector = vectors.subarray(at, at + width);
      turned.set(rotate(norm ? norm(vector) : vector, waves), at);
    }
    return turned;
  }
}

/** Each pair (x_i, x_{i+K/2}) turned by the angle of its place (Su et al. 2021). */
function rotate(x, waves) {
  if (!waves) return x;
  const { cosines, sines } = waves;
  const half = cosines.length;
  return x.map((value, k) =>
    k < half ? value * cosines[k] - x[half + k] * sines[k] : value * cosines[k - half] + x[k - half] * sines[k - half],
  );
}

/** A function that normalizes a vector: layer norm (Ba et al. 2016) or RMS norm (Zhang & Sennrich 2019). */
function makeNorm(arrays, prefix, { normalization, epsilon }) {
  const weight = arrays[`${prefix}weight`].data;
  const bias = arrays[`${prefix}bias`]?.data;
  return (x) => {
    let mean = 0;
    if (normalization === "layer") {
      for (const value of x) mean += value;
      mean /= x.length;
    }
    let squares = 0;
    for (const value of x) squares += (value - mean) ** 2;
    const spread = Math.sqrt(squares / x.length + epsilon);
    return x.map((value, k) => ((value - mean) / spread) * weight[k] + (bias ? bias[k] : 0));
  };
}

function relu(x) {
  return x.map((value) => Math.max(value, 0));
}

/** x·Φ(x) in the tanh form (Hendrycks & Gimpel 2016). */
function gelu(x) {
  return x.map((value) => 0.5 * value * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (value + 0.044715 * value ** 3))));
}

/** SiLU of the first half, times the second half (Shazeer 2020). */
function swiglu(x) {
  const half = x.length / 2;
  return x.slice(0, half).map((gate, k) => (gate / (1 + Math.exp(-gate))) * x[half + k]);
}

function add(x, y) {
  return x.map((value, k) => value + y[k]);
}
