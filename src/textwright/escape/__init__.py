"""The price in bits of what a lossy tokenizer threw away, by a code that restores documents."""

from textwright.escape.code import EscapeCode

__all__ = ["EscapeCode"]
