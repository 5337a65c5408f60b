"""README.md of an export: the run's model card, and how to use the exported files."""

from __future__ import annotations

from pathlib import Path

from textwright.run import Run
from textwright.run.about import card_of


def write_card(folder: Path, run: Run, use: str, notes: list[str], head: str = "") -> None:
    """Write README.md. use: Markdown · notes: paragraphs, or empty · head: front matter."""
    about = card_of(run) if run.has("README.md") else f"# {run.path.resolve().name}\n"
    parts = [head + about.rstrip(), "## Use", use.strip(), *filter(None, notes)]
    parts.append(
        "The model repeats what its corpus contains, true or not, and may repeat passages of it."
    )
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", "utf-8")


def context_note(context_length: int | None) -> str:
    """A note on the length of the context; empty if there is no limit."""
    if context_length is None:
        return ""
    return (
        f"The model looks back on {context_length} tokens, the one that begins every text "
        "included: prompt and new text together cannot be longer. (textwright itself continues, "
        "with the newest half of them.)"
    )
