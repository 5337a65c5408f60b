"""If memory runs out, torch's errors become MemoryError, and while writing a sentence."""

import numpy as np
import pytest
import torch
from small_models import SMALL

from textwright.compute.memory import memory_errors
from textwright.errors import GenerationError
from textwright.inspection.inner import trace
from textwright.models import TorchBackend, build
from textwright.models.key_values import KeyValueState
from textwright.models.lstm import RecurrentState
from textwright.tokenizer import Tokenizer, TokenizerOptions
from textwright.writing.generator import Generator

LETTERS = Tokenizer.train(TokenizerOptions(kind="char"), ["abc"])


def huge(*shape: int) -> torch.Tensor:
    """A view that takes no memory; a copy of it does not fit into any."""
    return torch.zeros(1).expand(*shape)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB)"),
    ],
    ids=str,
)
def test_a_full_device_is_a_memory_error(error):
    with pytest.raises(MemoryError, match="out of memory"), memory_errors():
        raise error


def test_a_full_processor_is_a_memory_error():
    with pytest.raises(MemoryError, match="allocate"), memory_errors():
        huge(2**50).clone()


def test_another_error_stays_as_it_is():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), memory_errors():
        torch.zeros(2, 3) @ torch.zeros(2, 3)


@pytest.mark.parametrize(
    "state",
    [
        KeyValueState([(huge(1, 2**40, 16, 64),) * 2], torch.tensor([16]), 16, [16]),
        RecurrentState(huge(2**20, 1, 2**30), None, torch.tensor([16])),
    ],
    ids=["gpt", "lstm"],
)
def test_a_state_that_does_not_fit_is_a_memory_error(state):
    with pytest.raises(MemoryError):
        state.select([0, 0])
    with pytest.raises(MemoryError):
        state.concat([state, state])


def test_a_look_into_a_model_that_does_not_fit_is_a_memory_error(monkeypatch):
    model = build(SMALL["gpt"], LETTERS.vocab_size, 32)
    monkeypatch.setattr(model, "trace", lambda ids: huge(2**50).clone())
    with pytest.raises(MemoryError):
        trace(model, np.array([0, 2]))


@pytest.mark.parametrize("full", ["prefill", "step"])
def test_writing_with_torch_says_which_batch_size_to_try(monkeypatch, full):
    model = build(SMALL["gpt"], LETTERS.vocab_size, 32)
    backend = TorchBackend(model)
    encode = model.encode

    def encode_or_fail(ids: torch.Tensor, state=None, lengths=None):
        if full == ("prefill" if state is None else "step"):
            huge(2**50).clone()
        return encode(ids, state, lengths)

    monkeypatch.setattr(model, "encode", encode_or_fail)
    with pytest.raises(MemoryError):
        _, state = backend.prefill(np.array([[0, 2]]), np.array([2]))
        backend.step(np.array([2]), state)
    with pytest.raises(GenerationError, match=r"8 texts at the same time: .* --batch-size 4"):
        Generator(backend, LETTERS).generate("a", num=8)
