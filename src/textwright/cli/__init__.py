"""The command line: thin. It reads flags, calls the library and shows the result.

Heavy imports stand inside the commands that need them, so that `--help` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from textwright import __version__
from textwright.cli.compare_commands import bits, compare
from textwright.cli.cues_command import cues
from textwright.cli.export_command import export
from textwright.cli.inspect_command import inspect
from textwright.cli.look_commands import cache, evaluate, presets, summary
from textwright.cli.memorisation_command import memorisation
from textwright.cli.sampling_flags import SampledCommand, without_flags
from textwright.cli.serve_command import serve
from textwright.cli.shell import INTERRUPTED, leave, speaks
from textwright.cli.starting import keep_bytecode
from textwright.cli.sweep_command import sweep
from textwright.cli.train_commands import corpus, demo, train
from textwright.cli.write_commands import generate
from textwright.errors import TextwrightError


class Commands(TyperGroup):
    """All commands, with a message when Ctrl-C ends one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except BrokenPipeError:
            raise
        except OSError as error:  # of all options here, only --install-completion touches files
            raise TextwrightError(
                f"Cannot install completion ({error.strerror}); copy what --show-completion prints "
                "to a file that your shell reads."
            ) from None

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stopped:
            if speaks():
                said = f"; {stopped}" if str(stopped) else ""
                typer.echo(f"\ntextwright: interrupted{said}.", err=True)
            leave(INTERRUPTED)


app = typer.Typer(
    cls=Commands,
    epilog="Begin with: textwright demo · textwright train my.txt · textwright generate runs/my",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"textwright {__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Train, understand and trust small autoregressive text models."""


for command in (
    *(demo, corpus, train, generate, evaluate, inspect, cues, compare, bits, sweep),
    *(memorisation, export, serve, cache, presets, summary),
):
    if command is generate:
        app.command(cls=SampledCommand)(without_flags(generate))
    else:
        app.command()(command)


def main() -> None:
    """Run the command line; every error that a user can cause is one sentence and exit code 2."""
    keep_bytecode()
    # Windows redirects in an encoding of its own.
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            # A name that is not UTF-8 can still be told.
            errors = "backslashreplace" if stream is sys.stderr else stream.errors
            stream.reconfigure(encoding="utf-8", errors=errors)
    try:
        app(prog_name="textwright")  # also as `python -m textwright`: completion is named so
    except TextwrightError as error:
        typer.echo(f"textwright: {error}", err=True)
        leave(2)
    except MemoryError:
        typer.echo(
            "textwright: Memory ran out; free some memory, or ask for less: a shorter text, fewer "
            "documents, a smaller corpus.",
            err=True,
        )
        leave(2)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # of any path: a name that is too long, a folder that is closed
        where = f" {error.filename}" if error.filename else ""
        typer.echo(
            f"textwright: Cannot read or write{where}: {error.strerror or error}; check the path, "
            "its permissions and the room on the disk.",
            err=True,
        )
        leave(2)
