"""Plain text → documents: one a file, line or block, never more than a stretch in memory."""

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

STRETCH = 1 << 20  # characters; a longer document comes in stretches


class Stretches:
    """A plain-text document too long for memory: iterate it once, before the next record.

    Joined, the stretches are the document; each but the last is cut after white space where
    the text has any, so that words stay whole.
    """

    def __init__(self, parts: Iterator[str]):
        self._parts = parts

    def __iter__(self) -> Iterator[str]:
        return self._parts


def read_text(
    handle: io.TextIOWrapper, unit: str, sentences: Callable[[], AbstractContextManager[None]]
) -> Iterator[dict[str, str | Stretches]]:
    """The documents of a file, as `{"text": …}`, by `unit`: file, line or block.

    `sentences` turns errors of reading into CorpusError; the stretches of a long document need
    one of their own, since their errors occur while the caller iterates them.
    """
    split = {"file": _whole_file, "line": _lines, "block": _blocks}[unit]
    events = split(handle)
    for text, ends in events:
        if ends:
            yield {"text": text}
            continue
        rest = _until_end(text, events, sentences)
        yield {"text": Stretches(rest)}
        for _ in rest:  # Skip what the caller did not read, up to the next document.
            pass


def _until_end(
    text: str,
    events: Iterator[tuple[str, bool]],
    sentences: Callable[[], AbstractContextManager[None]],
) -> Iterator[str]:
    def parts() -> Iterator[str]:
        yield text
        for part, ends in events:
            yield part
            if ends:
                return

    with sentences():
        yield from cut_after_space(parts())


def cut_after_space(parts: Iterable[str]) -> Iterator[str]:
    """The same text, cut so that each part but the last ends after white space where it can."""
    held = ""
    for part in parts:
        held += part
        at = max(held.rfind("\n"), held.rfind(" "), held.rfind("\t")) + 1 or len(held)
        # A script without spaces is cut anywhere.
        if at < len(held) - STRETCH:
            at = len(held)
        yield held[:at]
        held = held[at:]
    if held:
        yield held


# Each of the three yields (text, True if the document ends here).


def _whole_file(handle: io.TextIOWrapper) -> Iterator[tuple[str, bool]]:
    text = handle.read(STRETCH)
    while following := handle.read(STRETCH):
        yield text, False
        text = following
    yield text, True


def _lines(handle: io.TextIOWrapper) -> Iterator[tuple[str, bool]]:
    open_line = False
    while line := handle.readline(STRETCH):
        open_line = line[-1] != "\n" and len(line) >= STRETCH
        yield (line, False) if open_line else (line.removesuffix("\n"), True)
    if open_line:
        yield "", True


def _blocks(handle: io.TextIOWrapper) -> Iterator[tuple[str, bool]]:
    lines: list[str] = []
    size = 0
    line_start = True
    opened = False  # part of this block was yielded already
    while line := handle.readline(STRETCH):
        if line_start and line.isspace():
            if lines or opened:
                yield "".join(lines).removesuffix("\n"), True
            lines, size, opened = [], 0, False
            continue
        line_start = line[-1] == "\n"
        if size + len(line) > STRETCH and lines:
            # The new line is kept back: its line break is removed if the block ends there.
            yield "".join(lines), False
            lines, size, opened = [], 0, True
        lines.append(line)
        size += len(line)
    if lines or opened:
        yield "".join(lines).removesuffix("\n"), True
