"""Exporting a run to a folder in another program's form, checked before it gets its name."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError

from textwright import models
from textwright.errors import ExportError
from textwright.export import gguf_file, onnx_model, transformers_folder
from textwright.export.check import Reloaded, largest_difference
from textwright.files import filling, is_empty
from textwright.models import LanguageModel
from textwright.progress import OnStage, silent
from textwright.run import Run


class Format(Protocol):
    """The interface of a format's module."""

    NEEDS: tuple[str, ...]  # packages of the extra that it imports
    TOLERANCE: float  # largest difference in log-probability that rounding explains, in nats

    def write(self, run: Run, model: LanguageModel, folder: Path) -> None:
        """Write all files into an existing folder. Raises ExportError if the form is unfit."""

    def reload(self, folder: Path) -> Reloaded:
        """Load what was written with the readers that it is meant for. Raises ExportError if one of
        them cannot."""


FORMATS: dict[str, Format] = {
    "transformers": transformers_folder,
    "onnx": onnx_model,
    "gguf": gguf_file,
}


@dataclass(frozen=True)
class Exported:
    """largest_difference: in log-probability (nats), over all tokens and places compared ·
    without_counts: whether the run mixes counts with its model, which the format cannot hold."""

    format: str
    out: Path
    files: list[str]
    largest_difference: float
    without_counts: bool = False

    def to_json(self) -> dict[str, Any]:
        """The document that `textwright export --json` prints."""
        return {**asdict(self), "out": str(self.out)}


def export_run(run: Run, to: str, out: Path, on_progress: OnStage = silent) -> Exported:
    """Write a run's best weights into a new or empty folder, in the format `to` (one of FORMATS).

    The files appear there once they have been read back and found equal. Raises ExportError if
    something is in the way, a package is missing, the model has no such form, or results differ.
    """
    if to not in FORMATS:
        raise ExportError(f"There is no format {to!r}; choose {', '.join(FORMATS)} or html.")
    if run.config.model.counted:
        raise ExportError(
            f"{run.path} is an n-gram model, which no other program reads in these formats; write "
            "with it here or from a page (--to html), or export a neural run."
        )
    form = FORMATS[to]
    if out.exists() and not (out.is_dir() and is_empty(out)):
        raise ExportError(f"{out} exists already; name another --out, or delete it.")
    if missing := [name for name in form.NEEDS if importlib.util.find_spec(name) is None]:
        raise ExportError(
            f"Exporting to {to} needs {' and '.join(missing)}: pip install 'textwright[export]'."
        )
    on_progress("Loading", 0, 0)
    model = models.load(run, "cpu")
    try:
        with filling(out.absolute()) as written:
            on_progress("Writing", 0, 0)
            form.write(run, model, written)
            difference = largest_difference(run, model, form.reload(written), on_progress)
            if not difference <= form.TOLERANCE:
                raise ExportError(
                    f"Read back, the export's log-probabilities differ by {difference:.3g}, more "
                    f"than {form.TOLERANCE:g}; it was not kept. Please report this."
                )
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(f"Cannot write to {out}: {reason}.") from None
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return Exported(to, out, files, difference, bool(run.config.counts.longest))
