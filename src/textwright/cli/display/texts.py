"""Texts as they are written."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from textwright.cli.display.console import err
from textwright.errors import GenerationError, TextwrightError
from textwright.wording import counted, harmless

if TYPE_CHECKING:
    from textwright.api import Writer
    from textwright.writing.sampling_options import SamplingOptions
    from textwright.writing.stream import TextStream


def warn_of_prompts(stream: TextStream) -> None:
    """Print which words of the prompts are not in the vocabulary, and whether one ends in a space
    that this model would write itself."""
    words = dict.fromkeys(word for prompt in stream.prompts for word in prompt.unknown)
    if words:
        err.print(f"Not in the vocabulary, read as [UNK]: {', '.join(words)}")
    if stream.ends_in_space:
        err.print(
            "A prompt ends in a space, but this model's tokens begin with one: "
            "it writes better without."
        )


def warn_of_texts(stream: TextStream) -> None:
    """Print whether a text was longer than the model's context, and how many could not go on."""
    if stream.outgrown and stream.context_length:
        err.print(
            f"A text is longer than the {stream.context_length} tokens of the model's context: "
            "each time it was full, the model went on from the newest half of it."
        )
    if stuck := stream.endings["no_token_left"]:
        err.print(
            f"{'A text' if stuck == 1 else f'{stuck} texts'} could not go on, because no token was "
            "left to choose: forbid fewer tokens, or loosen --no-repeat-ngram, --no-copy or "
            "--min-new-tokens."
        )


def show_cost(stream: TextStream, length: int) -> None:
    """Print what it cost to write no `length` tokens in a row as in the training text."""
    bits, places = stream.cost.bits, stream.cost.places
    each = bits / max(1, stream.tokens)
    err.print(
        f"No {length} tokens in a row stand in the training text: that forbade something at "
        f"{counted(places, 'token')} of {stream.tokens:,} and cost {bits:.1f} bits, "
        f"{each:.3f} a token."
    )


def show_stream(stream: TextStream) -> None:
    """Texts on the terminal as they are written, one after another."""
    pending: dict[int, list[str]] = {}
    ended: set[int] = set()
    turn, many = 0, len(stream.prompts) * stream.num > 1

    def show(text: str) -> None:
        sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()

    def begin() -> None:
        if turn and turn < len(stream.prompts) * stream.num:
            sys.stdout.write("\n")
        if turn < len(stream.prompts) * stream.num:
            heading = f"--- {turn + 1} ---\n" if many else ""
            show(heading + stream.prompts[turn // stream.num].text)
            show("".join(pending.pop(turn, [])))

    begin()
    for event in stream:
        if event.sample == turn:
            show(event.text)
        else:
            pending.setdefault(event.sample, []).append(event.text)
        if event.finish_reason:
            ended.add(event.sample)
        while turn in ended:
            sys.stdout.write("\n")
            turn += 1
            begin()
    written = counted(stream.tokens, "token")
    err.print(f"{written}, {stream.tokens_per_second:,.0f} a second", style="dim")


def converse(writer: Writer, options: SamplingOptions, seed: int) -> None:
    """Write to prompts from the keyboard, until an empty line or the end of input. A prompt that
    cannot be used is told, and the next one asked for."""
    with contextlib.suppress(EOFError):
        while prompt := _asked("prompt> "):
            try:
                stream = writer.generator.stream([prompt], options, seed=seed)
                warn_of_prompts(stream)
                show_stream(stream)
                warn_of_texts(stream)
            except TextwrightError as error:
                err.print(str(error))
            seed += 1


def _asked(question: str) -> str:
    try:
        return input(question)
    except UnicodeDecodeError:
        raise GenerationError(
            "What was read is not UTF-8; give prompts in that encoding."
        ) from None
