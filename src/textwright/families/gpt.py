"""The attention family: the block of GPT-2, that of Llama and Qwen, and the first Transformer's."""

import math
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from textwright.families.family import Family
from textwright.wording import counted

# Up to so many seconds of training on two cores: layers, heads, width.
SIZES = {90: (2, 4, 128), 900: (3, 6, 192), 5_400: (4, 8, 256), math.inf: (6, 12, 384)}


class GPTOptions(Family):
    """Options of the attention family; by default the model has the form of GPT-2."""

    layouts: ClassVar = ("rows", "windows")
    adaptable: ClassVar = True
    model: ClassVar = "textwright.models.gpt:GPT"
    backend: ClassVar = "textwright.backends.numpy_gpt:NumpyGPT"
    exports: ClassVar = "textwright.export.gpt_forms"

    family: Literal["gpt"] = "gpt"
    layers: int = Field(4, ge=1, description="Blocks of attention and feed-forward, stacked.")
    heads: int = Field(4, ge=1, description="Attention heads in each block.")
    width: int = Field(128, ge=1, description="Width of a token's vector, throughout.")
    key_value_heads: int = Field(
        0,
        ge=0,
        description="Heads of keys and values, each shared by a group of query heads; 0: as heads.",
    )
    key_width: int = Field(
        0, ge=0, description="Width of a head's queries and keys; 0: width / heads."
    )
    value_width: int = Field(0, ge=0, description="Width of a head's values; 0: width / heads.")
    feedforward_width: int = Field(
        0,
        ge=0,
        description="Width inside feed-forward; 0: 4 times width, of swiglu 8/3 times, rounded up "
        "to a multiple of 32.",
    )
    activation: Literal["gelu", "relu", "swiglu"] = Field(
        "gelu",
        description="Activation in feed-forward: GELU (its tanh form), ReLU, or swiglu, a SiLU "
        "that multiplies a second layer.",
    )
    norm: Literal["pre", "post"] = Field(
        "pre", description="pre: normalize the input of a part; post: normalize the sum after it."
    )
    normalization: Literal["layer", "rms"] = Field(
        "layer", description="Layer norm, or RMS norm, which neither centers nor shifts."
    )
    norm_epsilon: float = Field(1e-5, gt=0, description="Added to the variance in norms.")
    query_key_norm: bool = Field(
        False, description="Normalize the queries and keys of each head (RMS norm)."
    )
    biases: Literal["all", "queries_keys_values", "none"] = Field(
        "all", description="Which linear layers have a bias."
    )
    positions: Literal["learned", "sinusoidal", "rotary"] = Field(
        "learned",
        description="How a token's position enters: learned vectors, fixed waves, or a rotation of "
        "queries and keys.",
    )
    rotary_base: float = Field(
        10_000.0, gt=1, description="Base of the wavelengths of rotary positions."
    )
    rotary_factor: float = Field(
        1.0, ge=1, description="Factor by which Llama 3 stretches long wavelengths; 1: not at all."
    )
    rotary_low: float = Field(
        1.0,
        gt=0,
        description="Wavelengths that fit fewer times than this into the original context stretch.",
    )
    rotary_high: float = Field(
        4.0,
        gt=0,
        description="Wavelengths that fit more times than this into the original context stay.",
    )
    rotary_original: int = Field(
        8_192, ge=1, description="The original context, before wavelengths were stretched."
    )
    embedding_scale: float = Field(
        0.0,
        ge=0,
        description="Factor of token vectors before positions are added; 0: the square root of "
        "width if positions are sinusoidal (Vaswani et al. 2017), else 1.",
    )
    context_length: int = Field(
        0, ge=0, description="Tokens that the model can look back on; 0: data.context_length."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of each part's output dropped.")
    tie_output: bool = Field(
        True,
        description="Use the embedding as output matrix; else one of its own, with a bias if "
        "biases is all.",
    )

    def model_post_init(self, _: object) -> None:
        if self.width % self.heads and not (self.key_width and self.value_width):
            raise ValueError("width is not a multiple of heads; set key_width and value_width")
        if self.heads % self.shared_heads:
            raise ValueError("heads is not a multiple of key_value_heads")
        if self.positions == "rotary" and self.head_widths[0] % 2:
            raise ValueError("positions rotary needs an even key_width")
        if self.rotary_low >= self.rotary_high:
            raise ValueError("rotary_low is not below rotary_high")

    @property
    def title(self) -> str:
        return "GPT"

    @classmethod
    def suited(cls, seconds: float, dropout: float) -> dict[str, dict[str, Any]]:
        layers, heads, width = next(size for most, size in SIZES.items() if seconds <= most)
        model = {
            "layers": layers,
            "heads": heads,
            "width": width,
            "activation": "swiglu",
            "normalization": "rms",
            "query_key_norm": True,
            "biases": "none",
            "positions": "rotary",
            "dropout": dropout,
        }
        data = {"layout": "windows", "context_length": 128}
        return {"model": model, "data": data, "train": {"optimizer": "muon"}}

    @property
    def head_widths(self) -> tuple[int, int]:
        """Widths of the keys and of the values of a head."""
        even = self.width // self.heads
        return self.key_width or even, self.value_width or even

    @property
    def shared_heads(self) -> int:
        """Heads of keys and values."""
        return self.key_value_heads or self.heads

    @property
    def inner_width(self) -> int:
        """Width inside feed-forward."""
        gated = self.activation == "swiglu"
        automatic = -(-8 * self.width // 96) * 32 if gated else 4 * self.width
        return self.feedforward_width or automatic

    @property
    def output_bias(self) -> bool:
        """Whether the output layer has a bias."""
        return self.biases == "all" and not self.tie_output

    @property
    def token_scale(self) -> float:
        """Factor of token vectors before positions are added."""
        automatic = self.width**0.5 if self.positions == "sinusoidal" else 1.0
        return self.embedding_scale or automatic

    def with_context(self, context_length: int) -> Self:
        if self.context_length:
            return self
        return self.model_copy(update={"context_length": context_length})

    def check_context(self, context_length: int) -> None:
        if 0 < self.context_length < context_length:
            raise ValueError(
                f"data.context_length is {context_length}, but the model looks back on "
                f"{self.context_length} tokens; set data.context_length={self.context_length} or "
                "less"
            )

    def looks_back(self, context_length: int) -> int:
        return self.with_context(context_length).context_length

    def describe(self, context_length: int) -> str:
        context = self.looks_back(context_length)
        return (
            f"{counted(self.layers, 'block')} of {counted(self.heads, 'head')}, "
            f"width {self.width}, context of {counted(context, 'token')}"
        )
