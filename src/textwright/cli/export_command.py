"""The command that hands a run on: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from textwright.cli.flags import AsJson, RunPath
from textwright.cli.shell import print_json
from textwright.errors import ExportError


def export(
    run: RunPath,
    to: Annotated[str, typer.Option("--to", help="transformers, onnx, gguf or html.")],
    out: Annotated[Path, typer.Option("--out", help="A new or empty folder; of html, a new file.")],
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            help="html: int8 (the default), a quarter of the size, or float32, with which a seed "
            "writes the text that it writes here.",
        ),
    ] = "",
    license: Annotated[
        str, typer.Option("--license", help="html: the terms of use that the page shows.")
    ] = "",
    lossy: Annotated[
        bool,
        typer.Option(
            "--lossy", help="html: accept int8 weights that cost over 0.01 bits per character."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a run in the form of another program, and read it back to compare.

    transformers: a folder for AutoModelForCausalLM and AutoTokenizer. onnx: for ONNX Runtime, with
    state in and out. gguf: for llama.cpp, where the model is a GPT-2, Llama, Qwen2 or
    Qwen3 with a byte-level BPE. html: one page that writes in any browser, offline.
    """
    from textwright.cli.display import Progression, show_export, show_html_export
    from textwright.export import Exported, HTMLFile, export_html, export_run
    from textwright.run import Run

    if to != "html" and (weights or license or lossy):
        raise ExportError("--weights, --license and --lossy are for --to html: leave them out.")
    found: Exported | HTMLFile
    with Progression(quiet=as_json) as shown:
        opened = Run.load(run)
        if to == "html":
            found = export_html(
                opened,
                out,
                weights=weights or "int8",
                license=license,
                lossy=lossy,
                on_progress=shown.show,
            )
        else:
            found = export_run(opened, to, out, shown.show)
    if as_json:
        print_json(found.to_json())
    elif isinstance(found, HTMLFile):
        show_html_export(found)
    else:
        show_export(found)
