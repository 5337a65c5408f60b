"""Progress, tables and texts on the terminal. Nothing is computed here."""

from textwright.cli.display.console import err, out
from textwright.cli.display.cues import show_cues
from textwright.cli.display.inspection import show_readings, show_units
from textwright.cli.display.progress import Progression, TrainDisplay
from textwright.cli.display.tables import (
    show_adherence,
    show_cache,
    show_export,
    show_rivals,
    show_scores,
    show_summary,
    show_survey,
)
from textwright.cli.display.texts import (
    converse,
    show_cost,
    show_stream,
    warn_of_prompts,
    warn_of_texts,
)

__all__ = [
    "Progression",
    "TrainDisplay",
    "converse",
    "err",
    "out",
    "show_adherence",
    "show_cache",
    "show_cost",
    "show_cues",
    "show_export",
    "show_readings",
    "show_rivals",
    "show_scores",
    "show_stream",
    "show_summary",
    "show_survey",
    "show_units",
    "warn_of_prompts",
    "warn_of_texts",
]
