"""Text → ids and back: words, characters, byte-level BPE, symbols."""

from textwright.tokenizer.tokenizer import Tokenizer, TokenizerOptions

__all__ = ["Tokenizer", "TokenizerOptions"]
