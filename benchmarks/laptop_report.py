"""The laptop table's results as Markdown and as a picture."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

Result = dict[str, Any]
Table = dict[str, Any]
Key = tuple[str, str, float | None]  # corpus, row, minutes


def picked_rate(
    results: Sequence[Result], corpus: str, row: str, minutes: float | None, seed: int
) -> float | None:
    """The rate with the best validation score among those tried, or None if none was."""
    tried = [
        r
        for r in results
        if (r["corpus"], r["row"], r["minutes"], r["seed"]) == (corpus, row, minutes, seed)
    ]
    if not tried:
        return None
    return min(tried, key=_valid)["rate"]


def _valid(result: Result) -> float:
    return result["valid"]["bits_per_character"] if result["valid"] else 0.0


def picked(results: Sequence[Result]) -> dict[Key, list[Result]]:
    """The results of each cell, one a seed, at the rate that validation picked."""
    by_cell: dict[tuple[Key, int], list[Result]] = defaultdict(list)
    for result in results:
        key = result["corpus"], result["row"], result["minutes"]
        by_cell[key, result["seed"]].append(result)
    found: dict[Key, list[Result]] = defaultdict(list)
    for (key, _), tried in by_cell.items():
        found[key].append(min(tried, key=_valid))
    return found


def _bits(results: Sequence[Result]) -> float:
    return mean(result["test"]["bits_per_character"] for result in results)


def _interval(results: Sequence[Result]) -> tuple[float, float]:
    """The interval of the held-out text, averaged over seeds."""
    lows, highs = zip(*(result["test"]["interval"] for result in results), strict=True)
    return mean(lows), mean(highs)


def _in_order(cells: dict[Key, list[Result]], corpus: str) -> list[str]:
    """The rows of a corpus, the best first."""
    best = defaultdict(list)
    for (of, row, _), results in cells.items():
        if of == corpus:
            best[row].append(_bits(results))
    return sorted(best, key=lambda row: min(best[row]))


def to_markdown(table: Table) -> str:
    """A table for each corpus, the best row first, and a list of the rows."""
    cells = picked(table["results"])
    lines = [", ".join(f"{name} {value}" for name, value in table["machine"].items()), ""]
    for corpus, parts in table["corpora"].items():
        budgets = sorted({key[2] for key in cells if key[0] == corpus and key[2] is not None})
        characters = parts["test"]["characters"]
        lines += [f"**{corpus}**, bits per character of {characters:,} held-out characters", ""]
        lines.append(f"| | {' | '.join(f'{minutes:g} min' for minutes in budgets) or 'bits'} |")
        lines.append("| --- |" + " --- |" * max(1, len(budgets)))
        for row in _in_order(cells, corpus):
            cell = [_cell(cells.get((corpus, row, minutes))) for minutes in budgets or [None]]
            if budgets and (untimed := cells.get((corpus, row, None))):
                cell = [_cell(untimed)] * len(budgets)
            lines.append(f"| {row} | {' | '.join(cell)} |")
        lines.append("")
    lines += [f"- **{row}**: {what}" for row, what in table["rows"].items()]
    return "\n".join(lines)


def _cell(results: Sequence[Result] | None) -> str:
    if not results:
        return ""
    low, high = _interval(results)
    return f"{_bits(results):.3f} ({low:.3f}–{high:.3f})"


def draw(table: Table, out: Path) -> None:
    """Bits against minutes, a panel for each corpus; a dashed line is a row without minutes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    cells = picked(table["results"])
    corpora = [corpus for corpus in table["corpora"] if any(key[0] == corpus for key in cells)]
    rows = sorted({key[1] for key in cells}, key=[*table["rows"]].index)
    styles = {row: (f"C{at % 10}", "osD^vPX*"[at // 10 % 8]) for at, row in enumerate(rows)}
    columns = min(3, len(corpora))
    lines = -(-len(corpora) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(6.2 * columns, 4.8 * lines), squeeze=False, layout="constrained"
    )
    for panel, corpus in zip(axes.flat, corpora, strict=False):
        budgets = sorted({key[2] for key in cells if key[0] == corpus and key[2] is not None})
        labels = []
        for row in rows:
            color, marker = styles[row]
            timed = [minutes for minutes in budgets if (corpus, row, minutes) in cells]
            if timed:
                bits = [_bits(cells[corpus, row, minutes]) for minutes in timed]
                ends = [_interval(cells[corpus, row, minutes]) for minutes in timed]
                reach = [
                    [bit - low for bit, (low, _) in zip(bits, ends, strict=True)],
                    [high - bit for bit, (_, high) in zip(bits, ends, strict=True)],
                ]
                panel.errorbar(timed, bits, reach, color=color, marker=marker, ms=4, capsize=2)
                labels.append((bits[-1], row, color))
            elif (corpus, row, None) in cells:
                bit = _bits(cells[corpus, row, None])
                panel.axhline(bit, color=color, linestyle="--", linewidth=1)
                labels.append((bit, row, color))
        panel.set_title(corpus)
        panel.set_xlabel("minutes of training")
        if budgets:
            panel.set_xscale("log")
            panel.set_xlim(budgets[0] / 1.15, budgets[-1] * 1.15)
            panel.xaxis.set_major_locator(FixedLocator(budgets))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        _label_at_right(panel, labels)
    for panel in axes[:, 0]:
        panel.set_ylabel("held-out bits per character")
    for panel in axes.flat[len(corpora) :]:
        panel.set_visible(False)
    figure.savefig(out, dpi=130, bbox_inches="tight")  # with the names at the right


def _label_at_right(panel: Any, labels: list[tuple[float, str, str]]) -> None:
    """Names beside the ends of their lines, moved apart where they would overlap."""
    low, high = panel.get_ylim()
    least, at = 0.045 * (high - low), -1e9
    for bits, row, color in sorted(labels):
        at = max(bits, at + least)
        panel.annotate(
            row,
            xy=(1, bits),
            xytext=(1.06, at),
            xycoords=("axes fraction", "data"),
            textcoords=("axes fraction", "data"),
            color=color,
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.5},
            annotation_clip=False,
        )
