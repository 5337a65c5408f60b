"""The families of models. A new one is a file here that names its code, and a line in FAMILIES."""

from textwright.families.family import Family, implementation
from textwright.families.gpt import GPTOptions
from textwright.families.lstm import LSTMOptions
from textwright.families.ngram import NGramOptions

FAMILIES: dict[str, type[Family]] = {
    "lstm": LSTMOptions,
    "gpt": GPTOptions,
    "ngram": NGramOptions,
}

__all__ = ["FAMILIES", "Family", "GPTOptions", "LSTMOptions", "NGramOptions", "implementation"]
