"""The command that asks how far back a run's predictions depend on a word."""

from __future__ import annotations

from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from textwright.cli.flags import AsJson, Fresh, numbers
from textwright.cli.shell import keeping, print_json
from textwright.errors import ConfigError
from textwright.progress import OnProgress


def cues(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Run folders, to be shown together.")
    ],
    pairs: Annotated[
        Path | None,
        typer.Option(
            "--pairs",
            help="A file of pairs, two texts a line with a tab between them, which differ early "
            "and go on alike.",
        ),
    ] = None,
    field: Annotated[
        str,
        typer.Option(
            "--field",
            help="Make the pairs: the first run's held-out documents, each beside itself with "
            "another document's value of this field.",
        ),
    ] = "",
    distances: Annotated[
        str, typer.Option("--distances", help="Tokens after the cue, comma-separated.")
    ] = "1,2,4,8,16,32,64",
    num: Annotated[int, typer.Option("--num", min=1, help="Most pairs that --field makes.")] = 50,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Chooses among documents.")] = 0,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with the runs in one picture.")
    ] = None,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Does a distant word change what comes? Read pairs of texts that differ in one word only.

    At each distance after the word: the divergence of the two predictions in bits, the bits that
    the true word saves on the next token, and the word's shares of attention and of saliency.
    """
    from textwright.api import Writer, load
    from textwright.cli.display import Progression, err, show_cues
    from textwright.inspection.cues import (
        COLUMNS,
        CueCurve,
        Following,
        field_pairs,
        follow_cues,
        read_pairs,
    )

    if bool(pairs) == bool(field):
        raise ConfigError("Name the pairs by --pairs FILE or by --field NAME, one of the two.")
    wanted = numbers(distances, "--distances")
    if not all(distance >= 1 and distance.is_integer() for distance in wanted):
        raise ConfigError(f"--distances {distances!r} should be whole numbers from 1 on.")
    if html:
        from textwright.report.page import check_writable

        check_writable(html)

    def follow(writer: Writer, on_progress: OnProgress) -> list[Following]:
        from textwright.inspection.inner import open_model

        model = open_model(writer.run)
        return follow_cues(writer.generator, model, read, places, on_progress)

    writers = [load(run) for run in runs]
    read = read_pairs(pairs) if pairs else field_pairs(writers[0].run, field, num, seed)
    places = sorted({int(distance) for distance in wanted})
    curves = []
    with keeping(fresh, as_json) as kept, Progression(quiet=as_json) as shown:
        for path, writer in zip(runs, writers, strict=True):
            followed = kept.about(writer.run).recall(
                list[Following],
                partial(follow, writer, partial(shown.show, f"Reading pairs with {path}")),
                part="cues",
                pairs=[astuple(pair) for pair in read],
                distances=places,
            )
            curves.append(CueCurve(str(path), followed))
    if html:
        from textwright.report.cues import write_cues

        write_cues(html, curves, read)
        err.print(f"Wrote {html}.")
    if as_json:
        print_json({"pairs": len(read), "runs": [curve.to_json() for curve in curves]})
    elif not html:
        show_cues(curves, len(read), COLUMNS)
