"""What the documentation says is so: its commands run, its links lead somewhere, its names exist.

A block marked `<!-- runs -->` is run as it stands, in a folder with small corpora, where every
training is cut short. The blocks of a page run one after another in the same folder.
"""

import builtins
import json
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from test_layers import FILES, room_of

from textwright import grammar
from textwright.cli import main
from textwright.config import Config
from textwright.families import FAMILIES
from textwright.training import survey

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md")
    for path in ROOT.glob(pattern)
)
MARK = re.compile(r"^<!-- runs -->$", re.MULTILINE)
RUNNABLE = [page for page in PAGES if MARK.search((ROOT / page).read_text("utf-8"))]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
# What every program has, and options of pip, torchrun, llama.cpp and lm_eval.
FOREIGN = {
    *("--help", "--install-completion", "--show-completion"),
    *("--exclude-editable", "--no-python", "--nproc-per-node", "--temp", "--model", "--tasks"),
    *("--batch", "--dtype", "--served-model-name"),
    *("--max-examples", "--checks", "--phases"),
}


def read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def prose(page: str) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```", "", read(page), flags=re.DOTALL | re.MULTILINE)


def quoted(page: str) -> list[str]:
    """Everything between single backticks, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", prose(page))


@pytest.fixture
def place(tmp_path, monkeypatch, trained, tiny):
    """A folder with the files that the pages speak of; trainings in it are tiny."""
    notes = [f"{note}\n" for note in grammar.documents(300, seed=5)]
    (tmp_path / "my.txt").write_text("".join(notes), "utf-8")
    (tmp_path / "other.txt").write_text("".join(notes[:20]), "utf-8")
    (tmp_path / "prompts.txt").write_text("The \nA soup\n", "utf-8")
    (tmp_path / "recipes.toml").write_text('[corpus]\ntemplate = "{title}: {directions}"\n')
    recipes = [{"title": f"Dish {n}", "directions": [note]} for n, note in enumerate(notes)]
    (tmp_path / "recipes.json").write_text(json.dumps(recipes), "utf-8")
    shutil.copytree(trained, tmp_path / "runs" / "trained")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(survey, "MEASURED_SECONDS", 0.0)
    monkeypatch.setattr(builtins, "input", lambda prompt="": "")
    resolve = Config.resolve

    def resolve_tiny(preset="", file=None, settings=(), **taken):
        family = resolve(preset, file, settings, **taken).model.family
        kept = [s for s in tiny if family == "lstm" or not s.startswith("model.")]
        return resolve(preset, file, [*settings, *kept], **taken)

    monkeypatch.setattr(Config, "resolve", resolve_tiny)
    return tmp_path


def run_command(line: str, monkeypatch) -> None:
    words = shlex.split(line)
    if words[0] == "python":
        monkeypatch.setattr(sys, "argv", words[1:])
        runpy.run_path(str(ROOT / words[1]), run_name="__main__")
        return
    assert words[0] == "textwright", f"{line!r} is marked to run, and is no textwright command"
    monkeypatch.setattr(sys, "argv", words)
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, f"{line!r} ended with {ended.code}"


@pytest.mark.parametrize("page", RUNNABLE)
def test_marked_blocks_run(page, place, monkeypatch, request):
    blocks = re.findall(r"^<!-- runs -->\n```(\w*)\n(.*?)^```", read(page), re.DOTALL | re.M)
    assert len(blocks) == len(MARK.findall(read(page)))
    if "--from gpt2" in read(page):
        shutil.copytree(request.getfixturevalue("gpt2_folder"), place / "gpt2")
    if "textwright train my.txt" not in read(page):  # the page begins with a run at hand
        (place / "runs" / "trained").rename(place / "runs" / "my")
    for language, text in blocks:
        if language == "python":
            monkeypatch.setattr(sys, "argv", [page, "my.txt"])
            exec(compile(text, page, "exec"), {"__name__": "__main__"})
        else:
            for line in text.splitlines():
                run_command(line, monkeypatch)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name, place, monkeypatch, capsys):
    arguments = {
        "train_and_stream.py": "my.txt 20",
        "temperatures.py": "runs/trained The",
        "look_inside_an_lstm.py": "runs/trained 'Serve the soup'",
    }
    run_command(f"python examples/{name} {arguments[name]}", monkeypatch)
    shown = capsys.readouterr().out
    assert {
        "train_and_stream.py": "bits a character held out",
        "temperatures.py": "T = inf, ",
        "look_inside_an_lstm.py": "'Serve'",
    }[name] in shown


def test_the_command_line_page_is_what_the_code_says():
    written = runpy.run_path(str(ROOT / "docs" / "make_cli.py"))["render"]()
    assert read("docs/cli.md") == written, "docs/cli.md is behind the code: run make docs"


def slug(heading: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    roots = r"(?:docs|src|tests|benchmarks|examples|\.ci)/[\w./-]*\w"
    for named in quoted(page):
        for path in re.findall(rf"^(?:python )?({roots})(?:$|\s|::)", named):
            assert (ROOT / path).exists(), f"{page} names {path}"


@pytest.mark.parametrize("page", PAGES)
def test_options_that_are_named_exist(page):
    known = set(re.findall(r"(?<!\w)--[a-z][a-z-]+", read("docs/cli.md"))) | FOREIGN
    for benchmark in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'"(--[a-z-]+)"', benchmark.read_text("utf-8")))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", read(page)))
    assert named <= known, f"{page} names {sorted(named - known)}"


@pytest.mark.parametrize("page", PAGES)
def test_configuration_keys_that_are_named_exist(page):
    parts = {
        name: set(field.annotation.model_fields)
        for name, field in Config.model_fields.items()
        if hasattr(field.annotation, "model_fields")
    }
    parts["model"] = {key for family in FAMILIES.values() for key in family.model_fields}
    given = re.findall(r"--set (?!section)([a-z]+)\.([a-z_]+)=", read(page))
    for text in quoted(page):
        given += re.findall(rf"^({'|'.join(parts)})\.([a-z_]+)(?:=\S+)?$", text)
    files = {"gguf", "json", "jsonl", "md", "onnx", "png", "py", "safetensors", "toml", "txt"}
    for part, key in given:
        assert key in parts[part] | files, f"{page} names {part}.{key}"


@pytest.mark.parametrize("page", PAGES)
def test_names_from_the_code_are_in_the_code(page):
    code = "\n".join(
        path.read_text("utf-8")
        for folder in ("src", "tests", "benchmarks", "examples")
        for path in (ROOT / folder).rglob("*.py")
    )
    for text in quoted(page):
        for name in re.findall(r"^[a-zA-Z]*_[a-zA-Z_]+$", text):
            assert re.search(rf"\b{name}\b", code), f"{page} names {name}"


def test_the_tree_of_the_code_is_drawn_as_it_is():
    page = read("docs/architecture.md")
    tree = re.search(r"^src/textwright/\n(.*?)^(?:```|tests/)", page, re.DOTALL | re.M)
    assert tree
    # A line names a room (`models/`) or modules (`errors.py options.py`), then says what it is.
    lines = [re.split(r"\s{2,}", line.strip())[0] for line in tree[1].splitlines()]
    lines = [line for line in lines if line[0].isalpha()]
    drawn = {re.sub(r"(/|\.py)$", "", name) for line in lines for name in line.split()}
    present = {room_of(name) for name in FILES} - {"__init__", "__main__"}
    # Rooms without Python: configurations, and the page.
    assert sorted(drawn - {"presets", "web"}) == sorted(present)


@pytest.mark.parametrize("page", PAGES)
def test_pages_hold_for_any_machine(page):
    found = re.search(r"(?<![\w.])/(?:work|home|Users|root|tmp)/", read(page))
    assert not found, f"{page} names a path of one machine"
