"""Writes docs/cli.md from the command line and the option tables, so that neither can be outlived.

python docs/make_cli.py
"""

import inspect
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import tomli_w
from pydantic import BaseModel
from typer.models import ArgumentInfo

from textwright.cli import app
from textwright.cli.sampling_flags import with_sampling_flags
from textwright.config import Config, presets
from textwright.families import FAMILIES

FILE = Path(__file__).with_name("cli.md")

HEAD = """# Command line

Written by `make docs` from the code.

Every command ends with exit code 0; with 2 and one sentence where something is wrong with what it
was given; with 130 where Ctrl-C stopped it, or a training SIGTERM or SIGHUP (`serve`, which Ctrl-C
is meant to end: 0). With `--json` a command prints one JSON document on standard output and nothing
else there. Progress goes to standard error. `textwright --version` prints the version, and
`textwright --install-completion` lets your shell complete commands.
"""

OPTIONS = """## Options of a configuration

One TOML table a part. An option is taken from the first that names it: a flag or
`--set section.key=value`, the file of `--config`, the preset of `--preset`, the default. An unknown
key is refused. A run keeps all of them, with the values used, in its `config.toml`.
"""

PRESETS = """## Presets

`--preset NAME` begins from one of these files of `src/textwright/presets/`.
"""


def render() -> str:
    """The whole page."""
    parts = [HEAD, *(_command(command.callback) for command in app.registered_commands)]
    parts.append(OPTIONS)
    for name, field in Config.model_fields.items():
        if name == "model":
            parts += [_section(f"[model], family {n}", family) for n, family in FAMILIES.items()]
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts.append(_section(f"[{name}]", field.annotation))
    rows = [(f"`{name}`", purpose) for name, purpose in presets().items()]
    return "\n".join([*parts, PRESETS, *_table(rows)]) + "\n"


def _command(function: Any) -> str:
    function = with_sampling_flags(inspect.unwrap(function))
    hints = get_type_hints(function, include_extras=True)
    usage = [f"textwright {function.__name__}"]
    rows: list[tuple[str, ...]] = []
    for name, parameter in inspect.signature(function).parameters.items():
        kind, info = get_args(hints[name])
        required = parameter.default is inspect.Parameter.empty
        if isinstance(info, ArgumentInfo):
            usage.append(info.metavar if required else f"[{info.metavar}]")
            rows.append((f"`{info.metavar}`", info.help, ""))
            continue
        # In Annotated, typer takes an option's first name for a default until it builds the option.
        named = [n for n in (info.default, *info.param_decls) if str(n).startswith("--")]
        flag = named[0] if named else "--" + name.replace("_", "-")
        shown = "" if required or parameter.default is False else _toml(parameter.default)
        if required:
            usage.append(flag + _value(kind))
        rows.append((f"`{flag}{_value(kind)}`", info.help, shown))
    head = [f"## {usage[0]}", "", inspect.cleandoc(function.__doc__ or ""), ""]
    usage.append("[OPTIONS]")
    return "\n".join([*head, "```", " ".join(usage), "```", "", *_table(rows, "default")]) + "\n"


def _value(kind: Any) -> str:
    """What follows a flag."""
    kinds = {kind, *get_args(kind)}
    for each, name in ((bool, ""), (Path, " PATH"), (int, " N"), (float, " X")):
        if each in kinds:
            return name
    return " TEXT"


def _section(name: str, options: type[BaseModel]) -> str:
    rows = []
    for key, field in options.model_fields.items():
        help_text = (field.description or "").removesuffix(".")
        literal = get_origin(field.annotation) is Literal
        choices = [_toml(choice).strip('`"') for choice in get_args(field.annotation) if literal]
        if not all(choice in help_text for choice in choices):
            listed = ", ".join(choices)
            help_text = f"{help_text} ({listed})" if help_text else listed
        rows.append((f"`{key}`", help_text, _toml(field.default)))
    return "\n".join([f"### {name}", "", *_table(rows, "default")]) + "\n"


def _toml(default: Any) -> str:
    """A default as a config file says it; nothing for none."""
    if default in (None, ""):
        return ""
    if default == {}:
        return "`{}`"
    default = str(default) if isinstance(default, Path) else default
    return f"`{tomli_w.dumps({'x': default}).removeprefix('x = ').strip()}`"


def _table(rows: list[tuple[str, ...]], *titles: str) -> list[str]:
    """The last columns have titles; the others speak for themselves."""
    width = len(rows[0])
    lines = [("",) * (width - len(titles)) + titles, ("---",) * width, *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
