"""Runs of small models with random weights, for what is told by no training."""

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
