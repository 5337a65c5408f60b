"""The sampling flags of a command, made from SamplingOptions: one help text, one default."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, get_origin

import typer
from typer.core import TyperCommand
from typer.main import get_command

from textwright.errors import GenerationError

Command = Callable[..., None]


def with_sampling_flags(command: Command) -> Command:
    """The command with a flag for each sampling option in place of its parameter `sampling`.

    A command without that parameter stays as it is. `sampling` is the options that were given,
    by name.
    """
    from textwright.writing.sampling_options import SamplingOptions

    signature = inspect.signature(command, eval_str=True)
    if "sampling" not in signature.parameters:
        return command
    kinds = {name: field.annotation for name, field in SamplingOptions.model_fields.items()}

    @wraps(command)
    def flagged(**given: Any) -> None:
        values = {name: _read(given.pop(name), kind) for name, kind in kinds.items()}
        command(sampling={n: v for n, v in values.items() if v is not None}, **given)

    flags = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,  # the run's own value
            annotation=_flag(field.annotation, field.description or ""),
        )
        for name, field in SamplingOptions.model_fields.items()
    ]
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += flags if parameter.name == "sampling" else [parameter]
    flagged.__annotations__ = {p.name: p.annotation for p in parameters}
    flagged.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return flagged


def without_flags(command: Command) -> Command:
    """The command as the list of commands shows it, for SampledCommand."""

    @wraps(command)
    def listed() -> None: ...

    listed.__annotations__ = {}
    listed.__signature__ = inspect.Signature()  # type: ignore[attr-defined]
    return listed


class SampledCommand(TyperCommand):
    """A command whose sampling flags are made when it is used.

    That imports pydantic, which `textwright --help` should not wait for.
    """

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        assert self.callback is not None
        single = typer.Typer(
            add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
        )
        single.command(self.name)(with_sampling_flags(inspect.unwrap(self.callback)))
        return get_command(single).make_context(info_name, args, parent, **extra)


def _flag(kind: Any, help_text: str) -> Any:
    """A flag for an option of this type."""
    if kind in (int, float):
        return Annotated[kind | None, typer.Option(help=help_text)]
    if get_origin(kind) is list:
        return Annotated[list[str] | None, typer.Option(help=f"{help_text} Repeatable.")]
    if get_origin(kind) is dict:
        help_text += " Write token=number. Repeatable."
        return Annotated[list[str] | None, typer.Option(help=help_text)]
    return Annotated[str | None, typer.Option(help=help_text)]


def _read(given: Any, kind: Any) -> Any:
    """The option's value, given that of its flag."""
    if given is None or kind in (int, float) or get_origin(kind) is list:
        return given
    if get_origin(kind) is dict:
        return _biases(given)
    return {"true": True, "false": False}.get(given.lower(), given)


def _biases(texts: list[str]) -> dict[str, float]:
    """`token=number`, each; the token may contain `=` itself."""
    biases = {}
    for text in texts:
        token, equals, number = text.rpartition("=")
        if not equals:
            raise GenerationError(f"--logit-bias {text!r} is not of the form token=number.")
        try:
            biases[token] = float(number)
        except ValueError:
            raise GenerationError(f"--logit-bias {text!r} should end in a number.") from None
    return biases
