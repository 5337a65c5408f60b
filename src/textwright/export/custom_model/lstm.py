"""A recurrent language model (LSTM, GRU or tanh RNN) trained by textwright, for `transformers`.

    embedding (V, E) → cell × layers, dropout after each → output (V, H)

Letters: B batch, T time, E embedding, H hidden width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class TextwrightConfig(PretrainedConfig):
    """The model's shape."""

    model_type = "textwright-lstm"

    def __init__(
        self,
        cell: str = "lstm",
        embedding_size: int = 128,
        hidden_size: int = 256,
        layers: int = 1,
        dropout: float = 0.0,
        tie_output: bool = False,
        **kwargs,
    ):
        self.cell, self.layers, self.dropout = cell, layers, dropout
        self.embedding_size, self.hidden_size = embedding_size, hidden_size
        self.tie_output = tie_output
        self.num_hidden_layers = layers
        super().__init__(**kwargs)


class RecurrentState:
    """The cells after each row's last token, (layers, B, H) each, and the number of ids read.

    It takes the place of other models' keys and values, and does not grow.
    """

    is_compileable = False

    def __init__(self, cells: tuple[Tensor, ...], read: int):
        self.cells, self.read = cells, read

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.read

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.cells = tuple(cell.index_select(1, beam_idx.to(cell.device)) for cell in self.cells)


class TextwrightForCausalLM(PreTrainedModel, GenerationMixin):
    """Predicts the next id."""

    config_class = TextwrightConfig

    def __init__(self, config: TextwrightConfig):
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        self.cells = CELLS[config.cell](
            config.embedding_size,
            config.hidden_size,
            config.layers,
            batch_first=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))
        if not config.tie_output:
            self.output_weight = nn.Parameter(torch.zeros(config.vocab_size, config.hidden_size))
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: RecurrentState | None = None,
        labels: Tensor | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """input_ids (B, T) → logits (B, T, V), and the loss if labels (B, T) are given.

        Tokens that attention_mask leaves out, on either side, change nothing.
        """
        x = self.embedding(input_ids)
        state = None if past_key_values is None else past_key_values.cells
        read = 0 if past_key_values is None else past_key_values.read
        if state is not None and self.config.cell != "lstm":
            (state,) = state
        own = None if attention_mask is None else attention_mask[:, -x.shape[1] :].bool()
        if own is None or own.all():
            hidden, state = self.cells(x, state)
        else:
            hidden, state = self._run_padded(x, state, own)
        weight = self.embedding.weight if self.config.tie_output else self.output_weight
        logits = nn.functional.linear(self.dropout(hidden), weight, self.output_bias)
        loss = None
        if labels is not None:
            loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        cells = state if isinstance(state, tuple) else (state,)
        after = RecurrentState(cells, read + x.shape[1])
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=after)

    def _run_padded(self, x: Tensor, state, own: Tensor):
        """Run rows with padding; own (B, T) marks their tokens, which are moved left and back."""
        order = torch.argsort(~own, dim=1, stable=True)
        moved = x.gather(1, order[:, :, None].expand_as(x))
        lengths = own.sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(moved, lengths, batch_first=True, enforce_sorted=False)
        hidden, state = self.cells(packed, state)
        hidden, _ = pad_packed_sequence(hidden, batch_first=True, total_length=x.shape[1])
        back = torch.argsort(order, dim=1)
        return hidden.gather(1, back[:, :, None].expand_as(hidden)), state

    def prepare_inputs_for_generation(
        self, input_ids, past_key_values=None, attention_mask=None, **kwargs
    ):
        """Pass on only the ids that have not been read yet."""
        read = 0 if past_key_values is None else past_key_values.read
        return {
            "input_ids": input_ids[:, read:],
            "attention_mask": attention_mask,
            "past_key_values": past_key_values,
        }

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the state above is the only one there is
