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
      const after = layer.advance(given, state[place]);
      given = after.hidden;
      return after;
    });
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
    this.advance = { 4: this.lstm, 3: this.gru, 1: this.rnn }[this.recurrent.rows / this.width];
  }

  /** f, i, o = σ(…); C̃ = tanh(…); C = f∘C₋₁ + i∘C̃; h = o∘tanh(C). The file's order is i, f, C̃, o. */
  lstm(given, before) {
    const { width } = this;
    const x = this.input.times(given);
    const h = this.recurrent.times(before.hidden);
    const hidden = new Float32Array(width);
    const cell = new Float32Array(width);
    const gate = (place) => x[place] + h[place];
    for (let k = 0; k < width; k++) {
      const candidate = Math.tanh(gate(2 * width + k));
      cell[k] = sigmoid(gate(width + k)) * before.cell[k] + sigmoid(gate(k)) * candidate;
      hidden[k] = sigmoid(gate(3 * width + k)) * Math.tanh(cell[k]);
    }
    return { hidden, cell };
  }

  /** r, z = σ(…); n = tanh(W·x + b + r∘(U·h + b')); h = n + z∘(h₋₁ − n). */
  gru(given, before) {
    const { width } = this;
    const x = this.input.times(given);
    const h = this.recurrent.times(before.hidden);
    const hidden = before.hidden.map((was, k) => {
      const reset = sigmoid(x[k] + h[k]);
      const candidate = Math.tanh(x[2 * width + k] + reset * h[2 * width + k]);
      return candidate + sigmoid(x[width + k] + h[width + k]) * (was - candidate);
    });
    return { hidden };
  }

  rnn(given, before) {
    const x = this.input.times(given);
    return { hidden: this.recurrent.times(before.hidden).map((h, k) => Math.tanh(x[k] + h)) };
  }
}

function sigmoid(x) {
  return 1 / (1 + Math.exp(-x));
}
