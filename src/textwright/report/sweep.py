"""A sweep as a picture and as sections of a page: quality against diversity, with real text."""

from __future__ import annotations

from pathlib import Path

from textwright.errors import ReportError
from textwright.files import replacing
from textwright.report.charts import Curve, line_chart
from textwright.report.page import Figure, Paragraph, Section, Table, check_writable, write_page
from textwright.sweep.sweep import NEUTRAL, Figures, Option, Sweep

QUALITY = "bits a character, by the judge"
DIVERSITY = "diversity: 1 − self-BLEU"
REAL = "real text"
MEANINGS = {
    "distance": "from real text in bits, self-BLEU and repetition, in standard errors; another "
    "sample of real text would be at about 1",
    "nearest": "how often, in random halves of the texts, no other setting was nearer",
    "bits/char": "bits per character by the judge; fewer is safer, not better",
    "95 %": "where bits/char lie for 95 % of random halves of the texts",
    "distinct-2": "different pairs of words, as a share of all pairs",
    "self-BLEU": "how alike the texts are, 0 to 1",
    "repetition": "share of four-word sequences that a text has written before",
    "loops": "texts that end going round in circles",
    "new": "sequences of 8 tokens that the training text does not have",
    "tokens": "mean length of a text",
    "ended": "texts that came to an end by themselves",
}
COLUMNS = ("", *MEANINGS)
# Of each option its color, and where the values stand beside the points: in points, and aligned.
_LOOKS: dict[Option, tuple[str, tuple[int, int], str]] = {
    "temperature": ("#c2410c", (-7, 4), "right"),
    "top_p": ("#1d4ed8", (7, -4), "left"),
    "min_p": ("#15803d", (3, -14), "left"),
}


def check_picture(path: Path) -> None:
    """Raise ReportError if a sweep cannot be written under this name, before it begins."""
    if path.suffix != ".png":
        if path.suffix not in (".html", ".md"):
            raise ReportError(f"{path} should end in .png, .html or .md, which says what to write.")
        check_writable(path)
        return
    if path.is_dir():
        raise ReportError(f"{path} is a folder; name a file for the picture.")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ReportError(
            "A PNG picture needs matplotlib; install it with: pip install 'textwright[report]'"
        ) from None


def write_sweep(sweep: Sweep, name: str, path: Path) -> None:
    """Write the picture as PNG, or the page as HTML or Markdown. name: of the run.

    Raises ReportError if the file cannot be written.
    """
    check_picture(path)
    if path.suffix != ".png":
        write_page(f"Sampling settings of {name}", sweep_sections(sweep), path)
        return
    try:
        with replacing(path) as beside:
            _draw(sweep, name, beside)
    except OSError as error:
        raise ReportError(f"Cannot write {path}: {error.strerror or error}.") from None


def table_rows(sweep: Sweep) -> list[list[str]]:
    """The cells under COLUMNS: of real text, then of each setting."""
    rows = [[REAL, "", "", *_cells(sweep.real)]]
    for each in sweep.results:
        distance = "too short" if each.distance is None else f"{each.distance:.1f}"
        name = each.setting.name.replace(" ", "\u00a0")
        rows.append([name, distance, f"{each.nearest:.0%}", *_cells(each.figures)])
    return rows


def sweep_sections(sweep: Sweep) -> list[Section]:
    """What a page shows of a sweep."""
    points = [(_diversity(sweep.real), sweep.real.bits_per_character)]
    curves = [
        Curve(
            option.replace("_", "-"),
            [at for _, at in path],
            series,
            dots=True,
            labels=[label for label, _ in path],
        )
        for series, (option, path) in enumerate(_paths(sweep).items())
    ]
    curves.append(Curve(REAL, points, 4, dots=True, joined=False))
    drawing = line_chart(
        curves, x=DIVERSITY, y=QUALITY, title="Quality against diversity", description=sweep.reason
    )
    caption = (
        f"Each point is {sweep.texts:,} texts of at most {sweep.max_tokens:,} tokens. Below real "
        "text: safer than it is. To the left: more alike."
    )
    return [
        Section(
            "Which sampling setting",
            [
                Paragraph(f"Recommended: {sweep.reason}"),
                Figure(drawing, caption, sweep.reason),
                Table(list(COLUMNS), table_rows(sweep)),
                Table(["", "what it is"], [list(each) for each in MEANINGS.items()]),
                Paragraph(f"The judge: {sweep.judge}."),
            ],
        )
    ]


def _cells(figures: Figures) -> list[str]:
    low, high = figures.interval
    texts = figures.diversity
    return [
        f"{figures.bits_per_character:.3f}",
        f"{low:.3f} to {high:.3f}",
        *(f"{value:.3f}" for value in (texts.distinct_2, texts.self_bleu)),
        *(f"{value:.1%}" for value in (texts.repetition, texts.loops)),
        "–" if figures.new is None else f"{figures.new:.1%}",
        f"{figures.tokens:.0f}",
        f"{figures.ended:.0%}",
    ]


def _diversity(figures: Figures) -> float:
    return 1 - figures.diversity.self_bleu


def _paths(sweep: Sweep) -> dict[Option, list[tuple[str, tuple[float, float]]]]:
    """The points of each option in the order of its values, (value, (diversity, bits)); the plain
    setting, which all options share, is on each path."""
    paths: dict[Option, list[tuple[str, tuple[float, float]]]] = {}
    for option, off in NEUTRAL.items():
        found = [
            (off if each.setting.is_plain else each.setting.value, each.figures)
            for each in sweep.results
            if each.setting.is_plain or each.setting.option == option
        ]
        if any(value != off for value, _ in found) or (option == "temperature" and found):
            paths[option] = [
                (
                    f"{value:g}" if value != off or option == "temperature" else "",
                    (_diversity(figures), figures.bits_per_character),
                )
                for value, figures in sorted(found, key=lambda point: point[0])
            ]
    return paths


def _draw(sweep: Sweep, name: str, path: Path) -> None:
    # Not pyplot, which would choose a backend for the whole process, a notebook's included.
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(8, 5.5), dpi=110)
    axes = drawing.subplots()
    for option, points in _paths(sweep).items():
        color, beside, aligned = _LOOKS[option]
        across, up = zip(*(at for _, at in points), strict=True)
        shown = option.replace("_", "-")
        axes.plot(across, up, color=color, marker="o", markersize=5, label=shown)
        for label, at in points:
            axes.annotate(label, at, beside, textcoords="offset points", color=color, ha=aligned)
    x, y = _diversity(sweep.real), sweep.real.bits_per_character
    axes.axhline(y, color="#64748b", linewidth=0.8, linestyle=":")
    axes.axvline(x, color="#64748b", linewidth=0.8, linestyle=":")
    axes.plot([x], [y], color="black", marker="*", markersize=15, linestyle="", label=REAL)
    axes.set(xlabel=DIVERSITY, ylabel=QUALITY, title=f"{name}: {sweep.recommended.name}")
    axes.margins(0.08)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    drawing.tight_layout()
    drawing.savefig(path, format="png")
