"""Which room may import from which: in order, no cycles, no torch above the line, no extras.

docs/architecture.md draws the same rooms. A new room is given its place here.
"""

import ast
import graphlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "textwright"
# In this order: a room imports from those before it.
ROOMS_WITHOUT_TORCH = (
    *("errors", "wording", "progress", "options", "files", "freed", "hub"),
    *("grammar", "corpus", "tokenizer", "escape", "writing", "counts"),
    *("families", "config", "run", "backends"),
)
ROOMS_WITH_TORCH = (
    *("compute", "models", "evaluation", "comparison", "memorisation", "sweep", "inspection"),
    *("export", "report", "training"),
    *("api", "server", "__init__", "cli", "__main__"),
)
ROOMS = (*ROOMS_WITHOUT_TORCH, *ROOMS_WITH_TORCH)

FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parent.name != "custom_model"  # code that an export takes along, not the package's own
}


def room_of(module: str) -> str:
    """`models` of `models.lstm`."""
    return module.partition(".")[0]


def find_imports(module: str) -> set[str]:
    """Absolute names of all modules that a module imports, inside its functions too."""
    path = FILES[module]
    package = ["textwright", *path.relative_to(PACKAGE).parts[:-1]]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            origin = ".".join([*start, *filter(None, [node.module])])
            for alias in node.names:  # a module of a package, or a name in a module
                inner = f"{origin}.{alias.name}"
                names.add(inner if inner.removeprefix("textwright.") in FILES else origin)
    return names


def find_own_imports(module: str) -> set[str]:
    """The modules of textwright that a module imports."""
    names = {name.removeprefix("textwright.") for name in find_imports(module)}
    return names & FILES.keys() - {module}


def import_without(blocked: list[str], modules: list[str]) -> str:
    """Import modules in a new interpreter where some packages are missing: the errors, if any."""
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        f"for module in {modules!r}:\n"
        "    try:\n"
        "        importlib.import_module(module)\n"
        "    except ImportError as error:\n"
        "        print(f'{module}: {error}', file=sys.stderr)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    return finished.stderr


def full_name(module: str) -> str:
    return "textwright" if module == "__init__" else f"textwright.{module}"


MODULES = sorted(FILES)
TORCH_FREE = [module for module in MODULES if room_of(module) in ROOMS_WITHOUT_TORCH]


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_only_from_its_room_or_those_before(module: str) -> None:
    room = room_of(module)
    assert room in ROOMS, f"Give the room {room} its place in {__file__}."
    later = ROOMS[ROOMS.index(room) + 1 :]
    wrong = {name for name in find_own_imports(module) if room_of(name) in later}
    assert not wrong, f"textwright.{module} imports from rooms after its own: {wrong}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    # Raises CycleError, which names the cycle.
    graphlib.TopologicalSorter({module: find_own_imports(module) for module in MODULES}).prepare()


@pytest.mark.parametrize("module", TORCH_FREE)
def test_rooms_above_the_line_never_name_torch(module: str) -> None:
    assert "torch" not in {name.split(".")[0] for name in find_imports(module)}


def test_rooms_above_the_line_import_where_torch_is_missing() -> None:
    assert import_without(["torch"], [full_name(module) for module in TORCH_FREE]) == ""


def test_every_module_imports_without_the_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [
        requirement.split(">")[0]
        for requirements in project["optional-dependencies"].values()
        for requirement in requirements
        if not requirement.startswith("textwright[")
    ]
    modules = [full_name(module) for module in MODULES if module != "__main__"]
    assert import_without(extras, modules) == ""
