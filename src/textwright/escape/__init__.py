"""What a lossy tokenizer threw away, priced by a code that gives the document back."""

from textwright.escape.code import EscapeCode

__all__ = ["EscapeCode"]
