"""The interface of every family, on which training, writing and inspection rely.

Letters: B batch, T time, D width, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from textwright.compute.memory import memory_errors
from textwright.families import Family
from textwright.models import loss

BY_TOKEN = ("embedding", "positions", "output")  # parameters whose rows belong to single tokens


class ModelState(Protocol):
    """A model's memory of a batch of rows."""

    @property
    def lengths(self) -> Tensor: ...
    def select(self, rows: Tensor | Sequence[int]) -> Self: ...
    def detach(self) -> Self: ...
    def tensors(self) -> dict[str, Tensor]: ...
    @classmethod
    def concat(cls, states: Sequence[Self]) -> Self: ...
    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Self: ...


@dataclass(frozen=True)
class Trace:
    """A model's inner quantities for one batch, by its written-out equations.

    hidden (B, T, D) equals `encode`'s. A family fills one of the others, with one item per layer:
    gates, each quantity (B, T, D), or attention weights (B, heads, T, T).
    """

    hidden: Tensor
    gates: list[dict[str, Tensor]] | None = None
    attention: list[Tensor] | None = None


class LanguageModel(nn.Module, ABC):
    """Base class of all models. A family defines `encode`, `trace` and its output layer."""

    options: Family
    context_length: int | None  # ids that one state can hold; None: no limit
    state_class: type[ModelState]
    embedding: nn.Parameter  # (V, E): the vector of each id, which `encode` looks up
    recompute_blocks = False  # in training, recompute inner values instead of keeping them

    @abstractmethod
    def encode(
        self,
        ids: Tensor,
        state: Any | None = None,
        lengths: Tensor | None = None,
        begins: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """ids (B, T) → hidden (B, T, D) and the state after each row's last id.

        Rows shorter than T are padded on the right; `lengths` (B,) gives their lengths. begins
        (B, T) bool, of rows without a state: where another document begins. A model that chooses
        what it looks back on does not look back past such a place.
        """

    @abstractmethod
    def start(self, rows: int) -> Any:
        """The state of so many rows before their first id."""

    @abstractmethod
    def trace(self, ids: Tensor) -> Trace:
        """ids (B, T) → every inner quantity, by explicit equations."""

    @property
    @abstractmethod
    def output_weight(self) -> Tensor:
        """The output matrix (V, D)."""

    @property
    @abstractmethod
    def output_bias(self) -> Tensor | None:
        """The output bias (V,), or None."""

    def joined_matrices(self) -> dict[str, list[int]]:
        """Parameters that hold several matrices with one input: the rows of each, by name."""
        return {}

    def project(self, hidden: Tensor) -> Tensor:
        """hidden (..., D) → logits (..., V)."""
        return nn.functional.linear(hidden, self.output_weight, self.output_bias)

    def next_token_loss(
        self, hidden: Tensor, targets: Tensor, sample: loss.TokenSample | None = None
    ) -> tuple[Tensor, Tensor]:
        """(sum of nats, count of targets); hidden (B, T, D), targets (B, T), −100 not counted;
        sample: tokens that stand for all."""
        return loss.next_token_loss(hidden, targets, self.output_weight, self.output_bias, sample)

    def token_nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Each target's nats (N,), without gradients; hidden (N, D), targets (N,)."""
        return loss.token_nats(hidden, targets, self.output_weight, self.output_bias)

    def token_log_probabilities(self, hidden: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of hidden (N, D), and the log-probabilities of all tokens after each (n, V)."""
        return loss.token_log_probabilities(hidden, self.output_weight, self.output_bias)


class TorchBackend:
    """Backend for any family: NumPy in, NumPy out. Raises MemoryError if memory runs out."""

    def __init__(self, model: LanguageModel):
        self.model = model.eval()
        self.context_length: int | None = model.context_length
        self.device = next(model.parameters()).device

    @memory_errors()
    @torch.inference_mode()
    def prefill(self, ids: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, ModelState]:
        """ids (B, T) padded on the right, lengths (B,) → the logits after each row (B, V)."""
        batch, ends = self._tensor(ids), self._tensor(lengths)
        hidden, state = self.model.encode(batch, lengths=ends)
        last = hidden[torch.arange(len(batch), device=self.device), ends - 1]
        return self._logits(last), state

    @memory_errors()
    @torch.inference_mode()
    def step(self, ids: np.ndarray, state: ModelState) -> tuple[np.ndarray, ModelState]:
        """Read one more id per row, (B,) → logits (B, V)."""
        hidden, state = self.model.encode(self._tensor(ids)[:, None], state)
        return self._logits(hidden[:, 0]), state

    @memory_errors()
    @torch.inference_mode()
    def follow(self, ids: np.ndarray, state: ModelState) -> tuple[np.ndarray, ModelState]:
        """Read more ids of each row, (B, T) → logits after each of them (B, T, V)."""
        hidden, state = self.model.encode(self._tensor(ids), state)
        return self._logits(hidden), state

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(array, dtype=np.int64), device=self.device)

    def _logits(self, hidden: Tensor) -> np.ndarray:
        return self.model.project(hidden).float().cpu().numpy()
