"""The three calls a newcomer needs: `train` a run, `load` it, write with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textwright.config import Config
from textwright.errors import ConfigError, RunError
from textwright.families import implementation
from textwright.run import Run
from textwright.run.origin import Origin, choose_config
from textwright.tokenizer import Tokenizer
from textwright.writing.backend import Backend
from textwright.writing.form import Form
from textwright.writing.generator import Generator
from textwright.writing.sampling_options import SamplingOptions, sampling_options
from textwright.writing.stream import Sample

if TYPE_CHECKING:
    from textwright.training.session import TrainingEvent

Source = str | Path


class Writer:
    """A trained model that writes. Needs no torch on the processor."""

    def __init__(self, run: Run, device: str = "cpu"):
        self.run = run
        self.tokenizer: Tokenizer = run.tokenizer
        self.generator = Generator(_backend(run, device), self.tokenizer)

    def stream(self, prompt: str = "", *, seed: int = 0, **options: Any) -> Iterator[str]:
        """Text as it is written, piece by piece. options: those of `SamplingOptions`."""
        for event in self.generator.stream([prompt], self.options(**options), seed=seed):
            if event.text:
                yield event.text

    def generate(
        self,
        prompts: str | Sequence[str] = "",
        *,
        num: int = 1,
        seed: int = 0,
        logprobs: bool = False,
        **options: Any,
    ) -> list[Sample]:
        """`num` samples of each prompt, in order; with `logprobs`, those of their tokens."""
        return self.generator.generate(
            prompts, self.options(**options), num=num, seed=seed, logprobs=logprobs
        )

    def fill(
        self, given: Mapping[str, str], *, num: int = 1, seed: int = 0, **options: Any
    ) -> list[dict[str, str | None]]:
        """The fields of `num` documents: those given as they are, the others by the model.

        A field that the model did not come to, or did not end, is None.
        """
        form = self.form()
        stream = self.generator.fill(form, given, self.options(**options), num=num, seed=seed)
        return [form.parse(sample.prompt + sample.text) for sample in stream.samples()]

    def form(self) -> Form:
        """The template that the run was trained with. Raises GenerationError where it has none."""
        return Form(self.run.config.corpus, self.tokenizer)

    def options(self, **changes: Any) -> SamplingOptions:
        """The run's own sampling defaults with these changed."""
        kept = self.run.config.sample.model_dump(exclude_unset=True)
        return sampling_options(**{**kept, **changes})


def train(
    sources: Source | Sequence[Source],
    *,
    out: Source,
    preset: str = "",
    config: Config | None = None,
    settings: Sequence[str] = (),
    init_from: Source | Origin | None = None,
    on_event: Callable[[TrainingEvent], None] = lambda event: None,
    **how: Any,
) -> Writer:
    """Train a run in the folder `out` and load it.

    settings: `section.key=value`, as on the command line. init_from: what `--from` names there.
    how: what `training.train_run` takes (valid, test, private, resume, on_progress).
    """
    from textwright.models.pretrained import find_origin
    from textwright.training.session import train_run

    names = [sources] if isinstance(sources, str | Path) else list(sources)
    origin = find_origin(str(init_from)) if isinstance(init_from, str | Path) else init_from
    if config is None:
        resumed = Path(out) if how.get("resume") else None
        config = choose_config(preset, settings=settings, resume=resumed, init_from=origin)
    elif preset or settings:
        raise ConfigError("A config is given whole: leave out preset and settings beside it.")
    for event in train_run(names, Path(out), config, init_from=origin, **how):
        on_event(event)
    return load(out)


def load(run: Source, device: str = "cpu") -> Writer:
    """A run folder as a writer. Raises RunError where there is none or it is damaged."""
    return Writer(Run.load(Path(run)), device)


def _backend(run: Run, device: str) -> Backend:
    options = run.config.model
    if device == "cpu" and options.backend:
        settled = options.with_context(run.config.data.context_length)
        backend: Backend = implementation(options.backend)(run.weights(), settled)
        return backend
    from textwright import models

    return models.TorchBackend(models.load(run, device))


__all__ = ["RunError", "Sample", "Writer", "load", "train"]
