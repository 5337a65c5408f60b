"""The tables of kills.py, in Markdown."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def write_tables(record: dict[str, Any], path: Path | None) -> None:
    """Print the tables, or write them to a file."""
    machine = f"{record['machine']}, {record['cores']} cores, Python {record['python']}, torch "
    text = f"{machine}{record['torch']}, commit {record['commit']}, {record['minutes']} minutes.\n"
    if kills := record["kills"]:
        noticed = sum(result["noticed"] for result in kills.values())
        deaths = noticed + sum(result["ended"] for result in kills.values())
        text += f"\n{_kills(kills)}\n{_phases(kills)}\n"
        text += (
            f"Of {deaths} deaths of one of two processes, the other ended by itself in {noticed}.\n"
        )
    if record["rows"]:
        text += "\n" + _rows(record["rows"])
    if path:
        path.write_text(text, "utf-8")
    else:
        print(text)


def _kills(kills: dict[str, Any]) -> str:
    rows = []
    for name, result in kills.items():
        count = sum(result["kills"].values())
        bad = len(result["wrong"])
        rows.append([name, count, result["finished"], result["finished"] - bad, bad])
    total = ["all", *(sum(row[n] for row in rows) for n in range(1, 5))]
    head = ["training", "kills", "trainings", "the same to the bit in the end", "lost"]
    return _table(head, [*rows, total])


def _phases(kills: dict[str, Any]) -> str:
    total: Counter[str] = Counter()
    for result in kills.values():
        total.update(result["kills"])
    return _table(["killed while", "kills"], total.most_common())


def _rows(rows: Iterable[dict[str, Any]]) -> str:
    """The runs of a damaged file and the checkpoints of a run are put together."""
    tried: dict[tuple[str, str], Counter[str]] = {}
    wrong: Counter[tuple[str, str]] = Counter()
    for row in rows:
        key = re.sub(r" \(.*", "", row["scenario"]), re.sub(r"step-\d+", "step-…", row["what"])
        tried.setdefault(key, Counter()).update(row["outcomes"])
        wrong[key] += len(row["wrong"])
    return _table(
        ["scenario", "what", "what came of it", "lost or wrong"],
        [
            [
                *key,
                "; ".join(f"{count} {outcome}" for outcome, count in tried[key].most_common()),
                wrong[key],
            ]
            for key in tried
        ],
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)
