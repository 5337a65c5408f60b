"""A command begins soon: what it does not need is not imported, and nothing is compiled twice."""

import json
import os
import subprocess
import sys

import pytest

NEEDLESS = {"torch._dynamo", "torch._inductor", "sympy", "matplotlib", "pandas", "transformers"}

# What is imported at the first step, printed in its place.
TRAINING = """
import json, os, sys
from textwright.cli import main
from textwright.training import trainer

def look(self):
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} | set(sys.modules))))
    sys.stdout.flush()
    os._exit(0)

trainer.Trainer.train_step = look
main()
"""

# Runs a command, then prints what was imported.
ANY_COMMAND = """
import json, sys
from textwright.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end
print()
print(json.dumps(sorted({*sys.modules})))
"""

# Prints where Python keeps compiled modules, after it imported a module named torch.
IMPORTING = """
import json, sys
from textwright.cli.starting import keep_bytecode
keep_bytecode()
import torch
print(json.dumps([sys.dont_write_bytecode, sys.pycache_prefix]))
"""


def run(program, *argv, **environment):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    inherited["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, argv)],
        capture_output=True,
        text=True,
        env={**inherited, **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("preset", ["demo", "demo-gpt"])
def test_a_training_imports_only_what_it_needs_before_its_first_step(notes, tmp_path, preset):
    cache = {"TEXTWRIGHT_CACHE": str(tmp_path / "cache")}
    argv = ["train", notes, "--out", tmp_path / "run", "--preset", preset, "--threads", "1"]
    imported = run(TRAINING, *argv, **cache)
    assert "torch" in imported
    assert not NEEDLESS & {*imported}


@pytest.mark.parametrize("preset", ["anime-lstm", "small-lstm", "wine-gpt", "small-gpt"])
def test_a_model_without_values_is_built_without_what_it_does_not_need(preset, tmp_path):
    given = [preset, "--set", "tokenizer.vocab_size=500", "--json"]
    imported = run(ANY_COMMAND, "summary", *given, TEXTWRIGHT_CACHE=str(tmp_path / "cache"))
    assert "torch" in imported
    assert not NEEDLESS & {*imported}


@pytest.fixture
def torch_folder(tmp_path):
    """A package named torch, that is not compiled."""
    folder = tmp_path / "packages" / "torch"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("", "utf-8")
    return folder


def import_torch(folder, program=IMPORTING, **environment):
    """Run the program where `folder` is torch → what it printed, and the compiled modules beside
    torch and in the cache."""
    cache = folder.parents[1] / "cache"
    path = f"import sys; sys.path.insert(0, {str(folder.parent)!r})\n"
    printed = run(path + program, TEXTWRIGHT_CACHE=str(cache), **environment)
    kept = [path.name.split(".")[0] for path in cache.rglob("*.pyc")]
    return printed, [*folder.rglob("*.pyc")], "__init__" in kept


def test_bytecode_that_may_not_be_written_is_kept_in_the_cache(torch_folder):
    (dont_write, prefix), beside, kept = import_torch(torch_folder, PYTHONDONTWRITEBYTECODE="1")
    assert not dont_write and prefix == str(torch_folder.parents[1] / "cache" / "bytecode")
    assert not beside and kept


def test_bytecode_is_kept_in_the_cache_where_the_folder_is_read_only(torch_folder):
    refuse = "import os; os.access = lambda path, mode: False\n"
    (_, prefix), beside, kept = import_torch(torch_folder, refuse + IMPORTING)
    assert prefix and kept and not beside


def test_bytecode_is_written_beside_where_it_may_be(torch_folder):
    (_, prefix), beside, kept = import_torch(torch_folder)
    assert prefix is None and beside and not kept


def test_nothing_is_written_where_torch_is_compiled(torch_folder):
    import_torch(torch_folder)  # compiles it
    (dont_write, prefix), _, kept = import_torch(torch_folder, PYTHONDONTWRITEBYTECODE="1")
    assert dont_write and prefix is None and not kept


def test_a_folder_that_the_user_named_for_bytecode_is_used(torch_folder, tmp_path):
    named = str(tmp_path / "named")
    (_, prefix), beside, kept = import_torch(torch_folder, PYTHONPYCACHEPREFIX=named)
    assert prefix == named and not beside and not kept


def test_a_cache_that_cannot_be_written_is_passed_over(torch_folder):
    (torch_folder.parents[1] / "cache").write_text("a file", "utf-8")
    _, beside, kept = import_torch(torch_folder, PYTHONDONTWRITEBYTECODE="1")
    assert not beside and not kept
