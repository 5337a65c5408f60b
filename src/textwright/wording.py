"""Numbers with their nouns, times, and texts of a corpus, in messages and reports."""

import unicodedata
from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """1 document, 2,000 documents."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def signed(number: float, form: str) -> str:
    """+0.19 or −0.19, as `form` (.2f, .1%) says; what is rounded to nothing is +0.00."""
    return f"{number:+z{form}}".replace("-", "−")


def clock(seconds: float) -> str:
    """Seconds as 1:23 or 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def meant(names: Sequence[str]) -> str:
    """The end of a sentence about a wrong name; names: of those that are near it, if any."""
    return f"; perhaps {' or '.join(names)} is meant" if names else ""


def one_line(text: str) -> str:
    """The text with its line breaks as ⏎, and harmless to a terminal."""
    return harmless(text).replace("\n", "⏎")


def harmless(text: str) -> str:
    """The text with its control characters as \\x1b: a terminal would obey them. Line breaks and
    tabs stay."""
    return "".join(
        ascii(c)[1:-1] if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text
    )
