"""What else a report can say of each run: a look inside, its sampling settings, what it copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from textwright.comparison.comparison import Comparison
from textwright.errors import TextwrightError
from textwright.evaluation.kept import NOTHING_KEPT, KeptResults
from textwright.evaluation.predictors import open_predictor
from textwright.inspection.text import TABLES, read_text
from textwright.memorisation.memorisation import Examiner
from textwright.progress import OnStage, silent
from textwright.report.comparison import short_names
from textwright.report.inspection import reading_sections
from textwright.report.memorisation import section as memorisation_section
from textwright.report.page import Block, Heading, Paragraph, Section
from textwright.report.shading import BEHAVIOR
from textwright.report.sweep import sweep_sections
from textwright.run import Run
from textwright.sweep.sweep import choose_settings
from textwright.sweep.sweep_run import sweep_run
from textwright.writing.generator import Generator

CHARACTERS_READ = 200  # of the first held-out document, which every run is looked at with

Look = Callable[[Run, str, str, OnStage, KeptResults], Sequence[Block]]
"""A run, a text to read, a device, a report of progress, what is kept → what a page shows."""


def _inside(
    run: Run, text: str, device: str, on_progress: OnStage, kept: KeptResults
) -> list[Block]:
    from textwright.inspection.inner import open_model, views_of  # which import torch

    model = open_model(run)
    generator = Generator(open_predictor(run, device).backend(), run.tokenizer)
    views = [*TABLES, *(view for view in views_of(model) if view != "units")]
    reading = read_text(generator, model, text, views=views, on_progress=on_progress)
    blocks: list[Block] = []
    for part in reading_sections([reading]):
        blocks += [Heading(part.title), *part.blocks]
    return blocks


def _settings(
    run: Run, text: str, device: str, on_progress: OnStage, kept: KeptResults
) -> list[Block]:
    settings = choose_settings({})
    found = sweep_run(run, settings, device=device, on_progress=on_progress, kept=kept)
    return [block for part in sweep_sections(found) for block in part.blocks]


def _memorized(
    run: Run, text: str, device: str, on_progress: OnStage, kept: KeptResults
) -> Sequence[Block]:
    return memorisation_section(Examiner(run, (), device, on_progress, kept).measure()).blocks


# By name: how the section of a run is called, and what is in it.
LOOKS: dict[str, tuple[str, Look]] = {
    "inside": ("Inside {}", _inside),
    "sweep": ("Sampling settings of {}", _settings),
    "memorisation": ("What {} has memorized", _memorized),
}


def run_sections(
    comparison: Comparison,
    looks: Sequence[str],
    device: str = "auto",
    on_progress: OnStage = silent,
    kept: KeptResults = NOTHING_KEPT,
) -> list[Section]:
    """A section for each run of a comparison and each of the named LOOKS.

    What cannot be had of a run is a sentence in its section: the rest of the report stands.
    """
    names = short_names([model.name for model in comparison.models])
    text = comparison.held_out.documents[0][:CHARACTERS_READ]
    sections = []
    for look in looks:
        title, blocks_of = LOOKS[look]
        for model in comparison.models:
            if model.kind != "run":
                continue
            try:
                blocks = blocks_of(Run.load(Path(model.name)), text, device, on_progress, kept)
            except TextwrightError as error:
                blocks = [Paragraph(f"This could not be measured: {error}")]
            sections.append(Section(title.format(names[model.name]), blocks))
    if sections:
        last = sections[-1]
        sections[-1] = Section(last.title, [*last.blocks, BEHAVIOR])
    return sections
