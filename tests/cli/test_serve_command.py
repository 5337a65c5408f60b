"""The command serve: what it refuses to start with, and how it ends."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest

from textwright.cli import main
from textwright.run.lock import locked

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def refused(monkeypatch, capsys):
    """Run `textwright serve` with arguments that it refuses → its sentence."""

    def go(*arguments) -> str:
        monkeypatch.setattr(sys, "argv", ["textwright", "serve", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        *progress, sentence = shown.err.splitlines()
        assert progress in ([], ["Opening runs …"])
        return sentence

    return go


def test_runs_that_cannot_be_served_are_a_sentence_each(refused, trained, tmp_path):
    assert f"No run at {tmp_path / 'none'}." in refused(tmp_path / "none", "--port", 0)
    broken = shutil.copytree(trained, tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{}")
    assert "tokenizer.json is damaged" in refused(broken, "--port", 0)
    same = shutil.copytree(trained, tmp_path / "other" / trained.name)
    assert f"Two runs are named {trained.name}" in refused(trained, same, "--port", 0)
    with locked(same):
        assert "is being trained by process" in refused(same, "--port", 0)


def test_a_port_in_use_is_a_sentence(refused, trained):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refused(trained, "--port", port)
    assert f"Cannot listen on port {port} of 127.0.0.1 (Address already in use" in sentence
    assert "name another with --port" in sentence
    assert "Cannot listen on port 0 of no.such.host" in refused(
        trained, "--host", "no.such.host", "--no-auth", "--port", 0
    )


def test_other_machines_are_let_in_only_with_a_key_or_by_name(refused, trained):
    sentence = refused(trained, "--host", "0.0.0.0", "--port", 0)
    assert "--api-key KEY" in sentence and "--no-auth" in sentence
    assert "leave out one" in refused(trained, "--api-key", "k", "--no-auth", "--port", 0)


def test_at_sigterm_streams_finish_and_the_exit_code_is_0(trained):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "textwright", "serve", str(trained), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        watchdog = threading.Timer(60, server.kill)
        watchdog.start()
        assert server.stderr
        started = next(line for line in server.stderr if line.startswith("Serving"))
        address = started.split(" at ")[1].split()[0]
        asked = {"prompt": "The", "max_tokens": 3000, "stream": True, "logit_bias": {"0": -100}}
        request = urllib.request.Request(
            f"{address}/completions",
            json.dumps({**asked, "seed": 1}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as stream:
            first = stream.readline()
            server.send_signal(signal.SIGTERM)
            lines = [line for line in [first, *stream] if line.strip()]
        assert lines[-1] == b"data: [DONE]\n"
        assert json.loads(lines[-2].removeprefix(b"data: "))["choices"][0]["finish_reason"] == (
            "length"
        )
        assert server.wait(30) == 0
        watchdog.cancel()
        with pytest.raises(OSError):
            urllib.request.urlopen(f"{address}/models", timeout=5)
