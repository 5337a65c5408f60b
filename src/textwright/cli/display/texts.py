"""Texts as they are written."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from textwright.cli.display.console import err

if TYPE_CHECKING:
    from textwright.api import Writer
    from textwright.writing.sampling_options import SamplingOptions
    from textwright.writing.stream import TextStream


def tell_prompts(stream: TextStream) -> None:
    """Which words of the prompts the model has never seen, and a last space that is in its way."""
    words = dict.fromkeys(word for prompt in stream.prompts for word in prompt.unknown)
    if words:
        listed = ", ".join(words)
        err.print(f"Not in the vocabulary, read as [UNK]: {listed}")
    if stream.ends_in_space:
        err.print(
            "A prompt ends in a space, but this model's tokens begin with theirs: "
            "it writes better without."
        )


def tell_outgrown(stream: TextStream) -> None:
    """That the model has not seen all of a text at once, if that is so."""
    if stream.outgrown and stream.context_length:
        err.print(
            f"A text is longer than the {stream.context_length} tokens that the model can look "
            "back on: it went on from the newest half of them whenever they were full."
        )


def show_stream(stream: TextStream) -> None:
    """Texts on the terminal as they are written, one after another."""
    pending: dict[int, list[str]] = {}
    ended: set[int] = set()
    turn, many = 0, len(stream.prompts) * stream.num > 1

    def begin() -> None:
        if turn and turn < len(stream.prompts) * stream.num:
            sys.stdout.write("\n")
        if turn < len(stream.prompts) * stream.num:
            heading = f"--- {turn + 1} ---\n" if many else ""
            sys.stdout.write(heading + stream.prompts[turn // stream.num].text)
            sys.stdout.write("".join(pending.pop(turn, [])))
            sys.stdout.flush()

    begin()
    for event in stream:
        if event.sample == turn:
            sys.stdout.write(event.text)
            sys.stdout.flush()
        else:
            pending.setdefault(event.sample, []).append(event.text)
        if event.finish_reason:
            ended.add(event.sample)
        while turn in ended:
            sys.stdout.write("\n")
            turn += 1
            begin()
    err.print(f"{stream.tokens:,} tokens, {stream.tokens_per_second:,.0f} a second", style="dim")


def converse(writer: Writer, options: SamplingOptions, seed: int) -> None:
    """Prompts from the keyboard until an empty line or the end of input."""
    with contextlib.suppress(EOFError):
        while prompt := input("prompt> "):
            stream = writer.generator.stream([prompt], options, seed=seed)
            tell_prompts(stream)
            show_stream(stream)
            seed += 1
