// The recurrent family: LSTM, GRU and tanh RNN, by the equations of models/lstm.py.

import { Matrix } from "./weights.js";

/** A recurrent model. A state is never changed, so a text can go on from any of its states. */
export class Recurrent {
  constructor(arrays) {
    this.embedding = new Matrix(arrays, "embedding");
    this.layers = [];
    for (let i = 0; `layers.${i}.input_weight` in arrays; i++) {
      this.layers.push(new Layer(arrays, `layers.${i}.`));
    }
    this.projection = "output.projection" in arrays ? new Matrix(arrays, "output.projection") : null;
    const output = "output.weight" in arrays ? "output.weight" : "embedding";
    this.output = new Matrix(arrays, output, "output.bias");
  }

  begin() {
    return this.layers.map(({ width }) => ({ hidden: new Float32Array(width), cell: new Float32Array(width) }));
  }

  /** The state after one more id. */
  read(state, id) {
    let given = this.embedding.row(id);
    return this.layers.map((layer, place) => {
      const { h, C } = layer.step(given, state[place]);
      given = h;
      return { hidden: h, cell: C };
    });
  }

  /** Every quantity at each of these ids, over a layer's units: {seen: ids, gates: of each layer, by name}. */
  inside(ids) {
    let given = ids.map((id) => this.embedding.row(id));
    const gates = this.layers.map((layer, place) => {
      let state = this.begin()[place];
      const steps = given.map((x) => {
        const step = layer.step(x, state);
        state = { hidden: step.h, cell: step.C };
        return step;
      });
      given = steps.map(({ h }) => h);
      const names = Object.keys(steps[0]);
      return Object.fromEntries(names.map((name) => [name, overUnits(steps.map((step) => step[name]))]));
    });
    return { seen: ids, gates };
  }

  /** What the state predicts, (V,) float32. */
  logits(state) {
    const { hidden } = state.at(-1);
    return this.output.times(this.projection ? this.projection.times(hidden) : hidden);
  }
}

class Layer {
  constructor(arrays, prefix) {
    this.input = new Matrix(arrays, `${prefix}input_weight`, `${prefix}bias`);
    this.recurrent = new Matrix(arrays, `${prefix}recurrent_weight`, `${prefix}recurrent_bias`);
    this.width = this.recurrent.columns;
    this.step = { 4: this.lstm, 3: this.gru, 1: this.rnn }[this.recurrent.rows / this.width];
  }

  /** f, i, o = σ(…); C̃ = tanh(…); C = f∘C₋₁ + i∘C̃; h = o∘tanh(C). The file's order is i, f, C̃, o. */
  lstm(given, before) {
    const x = this.input.times(given);
    const h = this.recurrent.times(before.hidden);
    const sums = (place) => Float64Array.from(before.hidden, (_, k) => x[place * this.width + k] + h[place * this.width + k]);
    const [i, f, candidate, o] = [sums(0).map(sigmoid), sums(1).map(sigmoid), sums(2).map(Math.tanh), sums(3).map(sigmoid)];
    const C = before.cell.map((was, k) => f[k] * was + i[k] * candidate[k]);
    return { f, i, candidate, C, o, h: C.map((cell, k) => o[k] * Math.tanh(cell)) };
  }

  /** r, z = σ(…); n = tanh(W·x + b + r∘(U·h + b')); h = n + z∘(h₋₁ − n). */
  gru(given, before) {
    const { width } = this;
    const x = this.input.times(given);
    const h = this.recurrent.times(before.hidden);
    const units = (quantity) => Float64Array.from(before.hidden, quantity);
    const r = units((_, k) => sigmoid(x[k] + h[k]));
    const z = units((_, k) => sigmoid(x[width + k] + h[width + k]));
    const n = units((_, k) => Math.tanh(x[2 * width + k] + r[k] * h[2 * width + k]));
    return { r, z, n, h: before.hidden.map((was, k) => n[k] + z[k] * (was - n[k])) };
  }

  rnn(given, before) {
    const x = this.input.times(given);
    return { h: this.recurrent.times(before.hidden).map((h, k) => Math.tanh(x[k] + h)) };
  }
}

/** Of each step's values over a layer's units: mean, mean absolute value and extremes, one number a step. */
function overUnits(steps) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    mean: steps.map(mean),
    magnitude: steps.map((values) => mean(values.map(Math.abs))),
    min: steps.map((values) => Math.min(...values)),
    max: steps.map((values) => Math.max(...values)),
  };
}

function sigmoid(x) {
  return 1 / (1 + Math.exp(-x));
}
