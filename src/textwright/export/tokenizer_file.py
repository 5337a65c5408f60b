"""A run's tokenizer.json, completed for other programs: the stop id that begins every row, and how
words are joined."""

from __future__ import annotations

import tokenizers
from tokenizers import Regex, decoders, processors

from textwright.run import Run

# Places between tokens where no space belongs, by patterns applied one after another: nearly what
# `tokenizer/decoding.py` decides from the tokens before.
_WORD = r"[^\s!-/:-@\[-`{-~]"
_ENDING = rf"(?:s|t|d|m|ll|re|ve|er|en|st)(?!{_WORD})"
_NO_SPACE = [
    r" (?=[,.;:!?)\]}%])",
    r"(?<=[(\[{$#]) ",
    r"(?<=\S) (?=[-/@\\])",
    r"(?<=\S[-/@\\]) ",
    rf"(?<={_WORD}) (?=' {_ENDING})",
    rf"(?<={_WORD}') (?={_ENDING})",
    r"(?<=[0-9]\.) (?=[0-9])",
    r"(?<=[0-9],) (?=[0-9]{3}(?![0-9]))",
    r"(?<=[0-9]:) (?=[0-9]{2}(?![0-9]))",
]


def exported_tokenizer(run: Run) -> tokenizers.Tokenizer:
    """The run's tokenizer, which puts the stop id before every text and joins words."""
    stop_id = run.tokenizer.stop_id
    (stop,) = run.tokenizer.tokens([stop_id])
    rust = tokenizers.Tokenizer.from_file(str(run.path / "tokenizer.json"))
    rust.post_processor = processors.TemplateProcessing(
        single=[stop, "$A"], pair=[stop, "$A", "$B"], special_tokens=[(stop, stop_id)]
    )
    if run.tokenizer.kind == "word":
        # A space between any two tokens (none has the prefix), then fewer.
        spaced = [decoders.WordPiece(prefix="\0", cleanup=False), decoders.Fuse()]
        fewer = [decoders.Replace(Regex(pattern), "") for pattern in _NO_SPACE]
        rust.decoder = decoders.Sequence([*spaced, *fewer])
    return rust


def spacing_note(run: Run) -> str:
    """A note on how the file joins tokens differently; empty if it does not."""
    if run.tokenizer.kind != "word":
        return ""
    return (
        "Words are joined by patterns in `tokenizer.json`, which do not distinguish opening from "
        'closing quotation marks: textwright writes "so", this file writes " so ".'
    )
