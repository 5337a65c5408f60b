"""The examples of docs/serving.md, asked of a server."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from serving import make_app, running

from textwright.server.bodies import CompletionBody
from textwright.server.limits import Limits

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
EXAMPLES = re.findall(r"^<!-- asks the server -->\n```(\w+)\n(.*?)^```", PAGE, re.DOTALL | re.M)


@pytest.fixture(scope="module")
def url(trained):
    with running(make_app(trained)) as address:
        yield address


@pytest.mark.parametrize(("language", "text"), EXAMPLES)
def test_examples_of_the_page_are_answered(language, text, url, capfd):
    text = text.replace("http://127.0.0.1:8000", url)
    if language == "python":
        exec(compile(text, "serving.md", "exec"), {})
    else:
        if shutil.which("curl") is None:
            pytest.skip("needs curl")
        subprocess.run(["bash", "-ec", text], check=True, timeout=30)
    shown = capfd.readouterr().out
    assert shown and "error" not in shown


def test_the_page_has_every_field_and_the_limits_in_force():
    fields = set(re.findall(r"`(\w+)`", PAGE))
    assert {*CompletionBody.model_fields} - fields == set()
    limits = Limits()
    counts = (limits.queue, limits.batch_size, limits.texts, limits.tokens, limits.logprobs)
    for value in (*counts, limits.bytes):
        assert f"| {value:,} " in PAGE
    assert f"{limits.seconds:g} seconds" in PAGE
