"""The recurrent family: LSTM, GRU and plain tanh RNN."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from textwright.families.family import Family


class LSTMOptions(Family):
    """Options of the recurrent family."""

    layouts: ClassVar = ("rows", "windows", "stream")
    model: ClassVar = "textwright.models.lstm:LSTM"
    backend: ClassVar = "textwright.backends.numpy_lstm:open_backend"
    exports: ClassVar = "textwright.export.lstm_forms"

    family: Literal["lstm"] = "lstm"
    cell: Literal["lstm", "gru", "rnn"] = Field("lstm", description="LSTM, GRU or plain tanh RNN.")
    embedding_size: int = Field(128, ge=1, description="Width of a token's vector.")
    hidden_size: int = Field(256, ge=1, description="Units in each layer.")
    layers: int = Field(1, ge=1, description="Recurrent layers, stacked.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share dropped after each layer.")
    variational: bool = Field(
        False,
        description="Drop the same units at every place of a row, after the embedding too (Gal & "
        "Ghahramani 2016).",
    )
    tie_output: bool = Field(
        False,
        description="Use the embedding as output matrix; where the widths differ, the last layer "
        "is projected to the embedding's width before.",
    )
    initialization: Literal["keras", "torch"] = Field(
        "keras",
        description="How fresh weights are drawn: as in Keras, or larger, as in PyTorch, which "
        "three layers need to begin learning.",
    )

    @classmethod
    def suited(cls, seconds: float, dropout: float) -> dict[str, dict[str, Any]]:
        embedding, hidden = (192, 384) if seconds <= 900 else (256, 640)
        model = {
            "embedding_size": embedding,
            "hidden_size": hidden,
            "dropout": dropout,
            "variational": True,
            "tie_output": True,
        }
        data = {"layout": "stream", "context_length": 64}
        train = {"batch_size": 16, "weight_decay": 0.1}  # a larger decay was tried for a GPT only
        return {"model": model, "data": data, "train": train}

    @property
    def projects(self) -> bool:
        """Whether there is a projection between the last layer and the output."""
        return self.tie_output and self.embedding_size != self.hidden_size

    @property
    def title(self) -> str:
        return self.cell.upper()

    def describe(self, context_length: int) -> str:
        return f"{self.layers} × {self.cell} of {self.hidden_size}, embedding {self.embedding_size}"
