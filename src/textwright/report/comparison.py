"""A comparison as sections of a page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.filesize import decimal

from textwright.comparison.comparison import Comparison, Model, Pair, Score
from textwright.report.charts import Curve, Interval, interval_plot, line_chart
from textwright.report.page import (
    Block,
    Excerpt,
    Excerpts,
    Figure,
    Paragraph,
    Section,
    Table,
    write_page,
)
from textwright.wording import signed

NONE = "–"
SAME = 0.00005  # bits per character: a smaller difference is not printed


def write_comparison(comparison: Comparison, path: Path, more: Sequence[Section] = ()) -> None:
    """Write the report as a page; more: sections after its own, see `run_sections`.

    Raises ReportError if that cannot be done.
    """
    lead = f"Scored on {comparison.protocol()['text']}."
    write_page("Models compared", [*comparison_sections(comparison), *more], path, lead)


def comparison_sections(comparison: Comparison) -> list[Section]:
    """The sections of the report."""
    names = short_names([model.name for model in comparison.models])
    found = [_scores(comparison, names), _protocol(comparison, names)]
    if comparison.pairs:
        found.insert(1, _differences(comparison, names))
    if any(len(model.curve) > 1 for model in comparison.models):
        found.append(_training(comparison, names))
    found.append(_writing(comparison, names))
    formed = [model for model in comparison.models if model.adherence]
    if formed:
        found.append(_fields(formed, names))
    return [*found, _texts(comparison, names)]


def verdict(comparison: Comparison) -> str:
    """The best model, and whether it is certain, in a sentence."""
    names = short_names([model.name for model in comparison.models])
    ranked = sorted(comparison.models, key=lambda model: model.score.bits_per_character)
    best = ranked[0]
    said = f"{names[best.name]} needs {best.score.bits_per_character:.4f} bits a character"
    if len(ranked) == 1 or ranked[1].name == best.name:
        return said + "."
    second = ranked[1]
    between = next(
        pair for pair in comparison.pairs if {pair.a, pair.b} == {best.name, second.name}
    )
    gap, (low, high) = abs(between.difference), sorted(map(abs, between.interval))
    if gap < SAME:
        return f"{said}, and so does {names[second.name]}."
    if between.interval[0] <= 0 <= between.interval[1]:
        return f"{said}; that it is better than {names[second.name]} is not certain."
    return (
        f"{said}, {gap:.4f} fewer than {names[second.name]} (95 %: {low:.4f} to {high:.4f} fewer)."
    )


def short_names(names: Sequence[str]) -> dict[str, str]:
    """The last part of each name, or the whole where these are alike."""
    # The absolute one, since "." has no name; links keep theirs.
    last = {name: name if "://" in name else Path(os.path.abspath(name)).name for name in names}
    alike = len(set(last.values())) < len(last)
    return {name: name for name in names} if alike else last


def _scores(comparison: Comparison, names: dict[str, str]) -> Section:
    rows = [
        [
            names[model.name],
            *_score_cells(model.score),
            f"{model.parameters:,}" if model.parameters else NONE,
            decimal(model.bytes) if model.bytes else NONE,
            _speed(model),
        ]
        for model in comparison.models
    ]
    easy = [[each.name, *_score_cells(each.score), NONE, NONE, NONE] for each in comparison.easy]
    columns = ["model", "bits per character", "95 % interval", "bits per byte"]
    table = Table(
        [*columns, "parameters", "on the disk", "tokens/s"],
        [*rows, *easy],
        "Lower bits are better. Tokens of different models are of different lengths.",
    )
    scored = [(names[m.name], m.score) for m in comparison.models]
    scored += [(each.name, each.score) for each in comparison.easy]
    # Counting single words is so far off that it would squeeze the others together.
    most = 3 * min(score.bits_per_character for _, score in scored)
    drawn = [(name, score) for name, score in scored if score.bits_per_character <= most]
    colors = {names[model.name]: at for at, model in enumerate(comparison.models)}
    missing = [name for name, score in scored if score.bits_per_character > most]
    plot = interval_plot(
        [
            Interval(name, s.bits_per_character, *s.interval, colors.get(name, 6), _of(s))
            for name, s in drawn
        ],
        x="bits per character",
        title="Bits per character of each model",
        description="; ".join(f"{name}: {_of(score)}" for name, score in drawn),
    )
    note = f" Too far to the right to be drawn: {', '.join(missing)}." if missing else ""
    blocks: list[Block] = [
        Paragraph(verdict(comparison)),
        table,
        Figure(plot, f"Bits per character with 95 % intervals.{note}"),
    ]
    if comparison.easy:
        made = [[each.name, each.what] for each in comparison.easy]
        caption = "What easy looks like: each knows the training text, and nothing else."
        blocks.append(Table(["easy model", "how it was made"], made, caption))
    blocks += [Paragraph(sentence) for sentence in comparison.left_out]
    return Section("Scores", blocks)


def _differences(comparison: Comparison, names: dict[str, str]) -> Section:
    def named(pair: Pair) -> str:
        return f"{names[pair.a]} − {names[pair.b]}"

    def of(pair: Pair) -> str:
        low, high = pair.interval
        return f"{signed(pair.difference, '.4f')} ({signed(low, '.4f')} to {signed(high, '.4f')})"

    plot = interval_plot(
        [Interval(named(p), p.difference, *p.interval, 0, of(p)) for p in comparison.pairs],
        x="difference in bits per character",
        title="Differences between models",
        description="; ".join(f"{named(pair)}: {of(pair)}" for pair in comparison.pairs),
        zero=True,
    )
    table = Table(
        ["pair", "difference", "95 % interval"],
        [
            [
                named(pair),
                signed(pair.difference, ".4f"),
                " to ".join(signed(end, ".4f") for end in pair.interval),
            ]
            for pair in comparison.pairs
        ],
    )
    said = (
        "The same documents are drawn for both models of a pair, so what makes a document hard for "
        "both cancels out. Left of zero, the first model is better; an interval that holds zero "
        "leaves it open."
    )
    return Section("Differences", [Paragraph(said), Figure(plot), table])


def _protocol(comparison: Comparison, names: dict[str, str]) -> Section:
    rows = [[name, text] for name, text in comparison.protocol().items()]
    models = [
        [
            names[model.name],
            model.kind,
            f"{model.score.tokens:,}",
            f"{model.score.bytes_charged:,}",
            model.context,
            "; ".join(model.remarks) or NONE,
        ]
        for model in comparison.models
    ]
    columns = ["model", "kind", "tokens", "bytes charged", "context", "note"]
    return Section("Protocol", [Table(["what", "how"], rows), Table(columns, models)])


def _training(comparison: Comparison, names: dict[str, str]) -> Section:
    # Numbered among all, so that a model has the color that it has beside its scores.
    drawn = [(at, model) for at, model in enumerate(comparison.models) if len(model.curve) > 1]
    said = "; ".join(
        f"{names[m.name]}: from {m.curve[0][1]:.3f} to {min(b for _, b in m.curve):.3f} "
        f"in {m.curve[-1][0]:.1f} minutes"
        for _, m in drawn
    )
    chart = line_chart(
        [Curve(names[m.name], m.curve, at, dots=len(m.curve) <= 40) for at, m in drawn],
        x="minutes of training",
        y="held-out bits per character",
        title="Held-out bits per character during training",
        description=said,
    )
    note = "Held-out bits per character, measured on validation text while each model trained."
    return Section("Training", [Figure(chart, note, f"{said}.")])


def _writing(comparison: Comparison, names: dict[str, str]) -> Section:
    columns = ["written by", "texts", "words", "distinct 1", "distinct 2", "distinct 3"]
    sets = [("real text", comparison.real)]
    sets += [(names[model.name], model.diversity) for model in comparison.models]
    rows = [
        [
            name,
            f"{d.texts:,}",
            f"{d.words:,}",
            f"{d.distinct_1:.3f}",
            f"{d.distinct_2:.3f}",
            f"{d.distinct_3:.3f}",
            f"{d.self_bleu:.3f}",
            f"{d.repetition:.3f}",
        ]
        for name, d in sets
    ]
    table = Table(
        [*columns, "self-BLEU", "repetition"], rows, "All sets cut to equal numbers of words."
    )
    said = (
        f"All models wrote by one rule: {comparison.protocol()['writing']}. Distinct n: different "
        "n-grams of words, as a share of all. Self-BLEU: how alike the texts are. Repetition: "
        "share of 4-grams that a text holds already. The row of real text is the mark to meet, "
        "from above and from below."
    )
    blocks: list[Block] = [Paragraph(said), table]
    copied = [(model, model.copying) for model in comparison.models if model.copying]
    if copied:
        blocks.append(
            Table(
                ["copying", "new in what it writes", "new in held-out text"],
                [
                    [names[model.name], _share(found["written"]), _share(found["held_out"])]
                    for model, found in copied
                ],
                "Sequences of tokens that do not stand in the training text, as measured at the "
                "end of training.",
            )
        )
    return Section("Writing", blocks)


def _fields(models: Sequence[Model], names: dict[str, str]) -> Section:
    rows = []
    for model in models:
        assert model.adherence
        for name, score in model.adherence.fields.items():
            preferred = NONE if score.preferred is None else f"{score.preferred:.1%}"
            gain = NONE if score.gain is None else signed(score.gain, ".3f")
            rows.append([f"{names[model.name]}: {name}", f"{score.found:.0%}", preferred, gain])
    said = (
        "Found: share of free texts that have the field. Preferred: share of held-out documents in "
        "which the field's true value makes the last field likelier than another document's value "
        "does; saved: the nats that it saves."
    )
    columns = ["field", "found", "preferred", "nats saved"]
    return Section("Fields", [Paragraph(said), Table(columns, rows)])


def _texts(comparison: Comparison, names: dict[str, str]) -> Section:
    blocks: list[Block] = [
        Paragraph("What each model writes from the same beginnings; none was picked.")
    ]
    for place, prompt in enumerate(comparison.prompts):
        blocks.append(
            Excerpts(
                [
                    Excerpt(names[model.name], model.texts[place], prompt)
                    for model in comparison.models
                ]
            )
        )
    return Section("Texts", blocks)


def _score_cells(score: Score) -> list[str]:
    low, high = score.interval
    return [
        f"{score.bits_per_character:.4f}",
        f"{low:.4f} to {high:.4f}",
        f"{score.bits_per_byte:.4f}",
    ]


def _of(score: Score) -> str:
    return f"{score.bits_per_character:.4f}"


def _speed(model: Model) -> str:
    speed = model.written.tokens_per_second
    return f"{speed:,.0f}" if speed else NONE


def _share(value: object) -> str:
    return f"{float(str(value)):.1%}"
