"""Completion, as a shell asks for it."""

import shutil
import subprocess
import sys

import pytest

BASH = shutil.which("bash")

# What Tab makes of the line that is given word by word.
COMPLETE = """
source .bashrc
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_textwright_completion textwright
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def bash(tmp_path):
    """Runs a script in bash, in a home of its own → (exit code, standard output, error output)."""
    if BASH is None:
        pytest.skip("completion is tested in bash, and this machine has none")
    command = tmp_path / "bin" / "textwright"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m textwright "$@"\n')
    command.chmod(0o755)

    def run(script, *arguments, home=tmp_path):
        finished = subprocess.run(
            [BASH, "-c", script, "bash", *arguments],
            env={"HOME": str(home), "PATH": f"{command.parent}:/usr/bin:/bin"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        return finished.returncode, finished.stdout, finished.stderr

    return run


def test_completion_that_was_installed_completes_commands_and_options(bash):
    code, out, err = bash("textwright --install-completion; exit $?")
    assert (code, err) == (0, "")
    assert "bash completion installed" in out
    assert bash(COMPLETE, "textwright", "gen") == (0, "generate\n", "")
    assert bash(COMPLETE, "textwright", "train", "--pres") == (0, "--preset\n", "")


def test_completion_can_be_shown(bash):
    code, out, _ = bash("textwright --show-completion; exit $?")
    assert code == 0
    assert "complete -o default -F _textwright_completion textwright" in out


def test_completion_that_cannot_be_installed_says_what_to_do(bash, tmp_path):
    (tmp_path / "file").touch()
    code, out, err = bash("textwright --install-completion; exit $?", home=tmp_path / "file")
    assert (code, out) == (2, "")
    assert err.startswith("textwright: Cannot install completion (")
    assert "--show-completion" in err
    assert "Traceback" not in err
