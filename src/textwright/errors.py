"""Every error a user can cause: one sentence with what happened and what to do.

The command line prints the sentence and exits with 2; a library user catches `TextwrightError`.
"""


class TextwrightError(Exception):
    """Base class of every error a user can cause."""


class CorpusError(TextwrightError):
    """A source cannot be read, or yields no document."""


class TokenizerError(TextwrightError):
    """A tokenizer cannot be trained, loaded or applied."""


class ConfigError(TextwrightError):
    """A preset, config file or option is unknown or out of range."""


class RunError(TextwrightError):
    """A run folder is missing, damaged, or of another version."""


class PretrainedError(TextwrightError):
    """Weights to begin from are missing, out of reach, or in a form that no model here has."""


class TrainingError(TextwrightError):
    """Training cannot go on: the loss diverged, the disk is full, memory ran out."""


class EvaluationError(TextwrightError):
    """Text cannot be scored, compared or measured, or not fairly."""


class GenerationError(TextwrightError):
    """A prompt or sampling option cannot be used."""


class ExportError(TextwrightError):
    """A run cannot be exported in the form asked for, or the exported files differ from it."""


class ReportError(TextwrightError):
    """A page cannot be made or written."""


class ServerError(TextwrightError):
    """A server cannot be started as it was asked for."""
