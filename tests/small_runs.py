"""Small runs with random weights, for what is told by no training; and whether two are the same."""

import torch

from textwright import models
from textwright.config import Config
from textwright.run import Run
from textwright.tokenizer import Tokenizer, TokenizerOptions

DOCUMENTS = [
    "The soup needs salt, pepper (black) and 1,000 bay leaves.",
    "Serve it at 10:30; don't wait!",
    "A 3.5-quart pot - not half-full - costs $4.",
    "Äpfel über Öl: naïve, 5% off.",
]
CONTEXT = 16

# What a trained run without a picture of its loss consists of.
FILES = {
    ".lock",
    "README.md",
    "checkpoints",
    "checksums.json",
    "config.toml",
    "corpus.json",
    "escape.json.gz",
    "heldout.jsonl.gz",
    "metrics.jsonl",
    "model.safetensors",
    "samples.md",
    "tokenizer.json",
    "train_hashes.bin",
}


def make_run(path, options, kind="word", origin=None, corpus=None, **tokenizer):
    """A run with random weights, biases too, and a few held-out documents. corpus: its options."""
    chosen = TokenizerOptions(kind=kind, vocab_size=300, **tokenizer)
    config = Config(
        corpus=corpus or {},
        model=options,
        tokenizer=chosen,
        data={"context_length": CONTEXT, "layout": "rows"},
        origin=origin,
    )
    run = Run.create(path, config)
    run.keep_tokenizer(Tokenizer.train(chosen, DOCUMENTS))
    torch.manual_seed(0)
    model = models.build(options, run.tokenizer.vocab_size, CONTEXT)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    run.keep_weights({name: tensor.numpy() for name, tensor in model.state_dict().items()})
    run.keep_held_out(("test", text) for text in DOCUMENTS)
    return run


def metrics(folder):
    """Every line without its seconds, except when training began or was resumed."""
    kept = [m for m in Run.load(folder).metrics() if m["event"] != "ready"]
    return [{k: v for k, v in m.items() if k != "seconds"} for m in kept]


def assert_same_run(one, other):
    """All files the same, to the bit; apart from timings, and the name on the model card."""
    for file in sorted(FILES - {"checkpoints", "metrics.jsonl", "README.md"}):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file
    assert metrics(one) == metrics(other)
    saved = [sorted(f.name for f in (run / "checkpoints").iterdir()) for run in (one, other)]
    assert saved[0][-1] == saved[1][-1] == "step-00000020"
    for file in ("model.safetensors", "trainer.safetensors"):
        last = f"checkpoints/step-00000020/{file}"
        assert (one / last).read_bytes() == (other / last).read_bytes(), last


def kinds(events, kind):
    """The events of one kind, in order."""
    return [event for event in events if isinstance(event, kind)]
