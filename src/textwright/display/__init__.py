"""What the command line shows: progress, tables, texts. It computes nothing."""

from textwright.display.console import err, out
from textwright.display.progress import Progression, TrainDisplay
from textwright.display.tables import (
    show_adherence,
    show_export,
    show_rivals,
    show_scores,
    show_summary,
    show_survey,
    show_tables,
)
from textwright.display.writing import converse, show_stream, tell_outgrown, tell_prompts

__all__ = [
    "Progression",
    "TrainDisplay",
    "converse",
    "err",
    "out",
    "show_adherence",
    "show_export",
    "show_rivals",
    "show_scores",
    "show_stream",
    "show_summary",
    "show_survey",
    "show_tables",
    "tell_outgrown",
    "tell_prompts",
]
