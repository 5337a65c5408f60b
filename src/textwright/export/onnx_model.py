"""model.onnx: ids and a state in, logits and the next state out, for ONNX Runtime.

    ids (batch, time)  hidden, cell (layers, batch, H)              an LSTM's; others have no cell
                       keys (layers, batch, G, past, K), values (…, U)                 a GPT's
    logits (batch, time, V)  and each state again, as next_hidden, next_keys, …

A state of zeros, for a GPT with past = 0, begins a text. G: heads of keys and values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from textwright.export.card import context_note, write_card
from textwright.export.check import Reloaded, reading_back
from textwright.export.forms import forms_of
from textwright.export.tokenizer_file import exported_tokenizer, spacing_note
from textwright.models import LanguageModel
from textwright.run import Run

NEEDS: tuple[str, ...] = ("onnx", "onnxruntime")
TOLERANCE = 1e-3  # nats; float32 sums in another order differ by about 1e-5

ONE_FILE = 1 << 30  # bytes; a protobuf holds 2 GB, so larger weights go into a second file


def write(run: Run, model: LanguageModel, folder: Path) -> None:
    """Write model.onnx, tokenizer.json and a README with a loop that writes a text."""
    import onnx

    built = forms_of(model).onnx_graph(model)
    path = folder / "model.onnx"
    large = sum(tensor.nbytes for tensor in model.state_dict().values()) > ONE_FILE
    onnx.save_model(
        built, str(path), save_as_external_data=large, location="model.onnx.data" if large else None
    )
    onnx.checker.check_model(str(path))
    exported_tokenizer(run).save(str(folder / "tokenizer.json"))
    notes = [context_note(model.context_length), spacing_note(run)]
    write_card(folder, run, _use(run, model.context_length), notes)


def reload(folder: Path) -> Reloaded:
    """Load with ONNX Runtime and `tokenizers`."""
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    with reading_back("onnxruntime"):
        session = InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def logits(ids: np.ndarray) -> np.ndarray:
        """Read in two parts, so that the state is compared too."""
        first, second = np.array_split(ids[None], 2, axis=1)
        state, found = start(session), []
        for part in (first, second):
            if part.size:
                values, *after = session.run(None, {"ids": part, **state})
                state = dict(zip(state, after, strict=True))
                found.append(values[0])
        return np.concatenate(found)

    return Reloaded(lambda text: tokenizer.encode(text).ids, logits)


def start(session: Any) -> dict[str, np.ndarray]:
    """The state of one row before its first id."""
    lengths = {"batch": 1, "past": 0}
    return {
        state.name: np.zeros([lengths.get(axis, axis) for axis in state.shape], np.float32)
        for state in session.get_inputs()[1:]
    }


def _use(run: Run, context_length: int | None) -> str:
    new = run.config.sample.max_new_tokens
    new = new if context_length is None else min(new, context_length - 1)
    return f"""`model.onnx` takes `ids` (batch, time) and a state, and gives `logits` (batch, time,
vocabulary) and the next state. All rows of a batch are of one length. This loop writes a text:

```python
import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

session = InferenceSession("model.onnx")
tokenizer = Tokenizer.from_file("tokenizer.json")
random = np.random.default_rng(0)
start = {{"batch": 1, "past": 0}}  # the lengths of a state's axes before the first token
states = {{s.name: [start.get(n, n) for n in s.shape] for s in session.get_inputs()[1:]}}
states = {{name: np.zeros(shape, np.float32) for name, shape in states.items()}}
ids = new = tokenizer.encode("").ids  # a prompt; the stop token stands before it
for _ in range({new}):
    logits, *after = session.run(None, {{"ids": [new], **states}})
    states = dict(zip(states, after))
    odds = np.exp((logits[0, -1] - logits[0, -1].max()) / 0.8)  # temperature 0.8
    new = [int(random.choice(len(odds), p=odds / odds.sum()))]
    if new == [{run.tokenizer.stop_id}]:  # the stop token ends it
        break
    ids = ids + new
print(tokenizer.decode(ids[1:]))
```"""
