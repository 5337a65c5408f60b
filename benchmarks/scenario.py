"""A scenario of kills.py: where it is tried, and the rows of the table that it yields."""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forked import Child

LATER = ["--resume", "--set", "train.max_steps=20"]
# Sentences that say what to do.
REMEDY = re.compile(
    r"--resume|restore|delete|name (another|it|a )|train (again|a new)|free some|choose|leave it|"
    r"should be|must be|permissions|not readable|correct"
)


@dataclass
class Place:
    """Where all is done. notes: the corpus · settings: of a small LSTM · stride: 1, or more to try
    only one in so many · trained: finished runs, by name."""

    folder: Path
    notes: Path
    settings: Sequence[str]
    stride: int
    trained: dict[str, Path] = field(default_factory=dict)

    def train(self, out: Path, *more: str) -> list[str]:
        """A command line that trains an LSTM for 10 steps."""
        argv = ["train", str(self.notes), "--preset", "demo", "--out", str(out)]
        argv += [part for setting in self.settings for part in ("--set", setting)]
        return [*argv, "--set", "train.max_steps=10", *more]


@dataclass
class Row:
    """A row of the table. outcomes: what came of each try · wrong: what should not have been."""

    scenario: str
    what: str
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def refused(self, child: Child, *names: str) -> bool:
        """Count a command that ended with a sentence that names what it is about and a remedy."""
        sentence = " ".join(child.output.split())
        good = child.code == 2 and "Traceback" not in sentence and bool(REMEDY.search(sentence))
        good = good and all(name in sentence for name in names)
        if good:
            self.outcomes["refused in a sentence"] += 1
        else:
            self.wrong.append(_end_of(child))
        return good

    def same(self, child: Child, found: Sequence[str], outcome: str) -> None:
        """Count a training that should have come to the same files."""
        if child.code or found:
            self.wrong.append(f"not {outcome}: {list(found)}, {_end_of(child)}")
        else:
            self.outcomes[outcome] += 1


def looks(out: Path) -> dict[str, list[str]]:
    """The commands that read a run."""
    return {
        "generate": ["generate", str(out), "--prompt", "The", "--num", "2", "--seed", "1"],
        "evaluate": ["evaluate", str(out), "--json"],
        "inspect": ["inspect", str(out), "--prompt", "The", "--json"],
    }


def _end_of(child: Child) -> str:
    """The exit code, the last line that a command wrote, and the last place in a traceback."""
    lines = child.output.strip().splitlines() or [""]
    places = [line.strip() for line in lines if "/textwright/" in line and "line" in line]
    return f"exit {child.code}: {' '.join([*places[-1:], lines[-1]])}"


def told(child: Child) -> str:
    """What a command printed, without a speed."""
    return "\n".join(
        line
        for line in child.output.splitlines()
        if "second" not in line and "tokens/s" not in line
    )


Scenario = Callable[[Place, random.Random], Iterator[Row]]
