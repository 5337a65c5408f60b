"""Print the six quantities of the LSTM cell, token by token, for a text of your own.

    python examples/look_inside_an_lstm.py runs/my "The soup is hot."

    f = σ(W_f·[x, h] + b_f)    i = σ(W_i·[x, h] + b_i)    C̃ = tanh(W_C·[x, h] + b_C)
    C = f∘C₋₁ + i∘C̃            o = σ(W_o·[x, h] + b_o)    h = o∘tanh(C)

Each is a vector of hidden_size numbers for each token; the table gives its mean, for C̃, C and h
that of the absolute values. The last column is the unit whose memory C the token changed most.
"""

import sys
from pathlib import Path

import torch

from textwright import models
from textwright.run import Run


def main(path: str, text: str) -> None:
    run = Run.load(Path(path))
    model = models.load(run, "cpu")
    ids = [run.tokenizer.stop_id, *run.tokenizer.encode(text).tolist()]
    with torch.no_grad():
        trace = model.trace(torch.tensor([ids]))
    gates = {name: values[0] for name, values in trace.gates[0].items()}  # first layer, (T, H)
    if "f" not in gates:
        sys.exit(f"{path} has a {run.config.model.cell} cell; train one with model.cell=lstm.")
    change = torch.diff(gates["C"], dim=0, prepend=torch.zeros_like(gates["C"][:1]))
    print(f"{'token':16}{'f':>7}{'i':>7}{'|C̃|':>8}{'|C|':>7}{'o':>7}{'|h|':>7}  most changed")
    for t, token in enumerate(["(start)", *(run.tokenizer.decode([i]) for i in ids[1:])]):
        means = [gates[name][t].abs().mean() for name in ("f", "i", "candidate", "C", "o", "h")]
        unit = int(change[t].abs().argmax())
        shown = "".join(f"{mean:7.2f}" for mean in means)
        print(f"{token!r:16}{shown}  unit {unit} by {change[t, unit]:+.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
