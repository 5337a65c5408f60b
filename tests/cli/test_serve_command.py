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
from serving import ask, get

from textwright.run.lock import locked
from textwright.server.listen import name_address


@pytest.fixture
def refused(tw):
    """Run `textwright serve` with arguments that it refuses → its sentence."""

    def go(*arguments) -> str:
        code, out, err = tw("serve", *arguments)
        assert (code, out) == (2, "")
        *progress, sentence = err.splitlines()
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


def test_a_name_that_no_machine_can_have_is_a_sentence(refused, trained):
    for host in ("127.0..1", "a" * 70):
        sentence = refused(trained, "--host", host, "--no-auth", "--port", 0)
        assert sentence.endswith(f"No machine can be named '{host}': give another --host.")


def test_a_time_that_never_ends_is_a_sentence(refused, tmp_path):
    sentence = refused(tmp_path / "none", "--seconds", "inf", "--port", 0)  # before it is loaded
    assert "--seconds is inf: give a number, such as 600." in sentence


def test_other_machines_are_let_in_only_with_a_key_or_by_name(refused, trained):
    sentence = refused(trained, "--host", "0.0.0.0", "--port", 0)
    assert "--api-key KEY" in sentence and "--no-auth" in sentence
    assert "leave out one" in refused(trained, "--api-key", "k", "--no-auth", "--port", 0)


@pytest.mark.parametrize("key", [" ", "\n", "schl\u00fcssel", "two\nlines"])
def test_a_key_that_nobody_can_send_is_a_sentence(key, refused, trained):
    assert "The key is empty, or no header can hold it" in refused(trained, "--api-key", key)


@pytest.fixture
def started(tw, monkeypatch):
    """Run `textwright serve` up to where it would answer → its app, and what it said."""

    def go(*arguments):
        apps = []
        monkeypatch.setattr(
            "textwright.server.listen.serve",
            lambda app, bound, seconds, on_start: (apps.append(app), on_start()),
        )
        code, _, err = tw("serve", *arguments, "--port", 0)
        assert code == 0, err
        return apps[0], err

    return go


def test_a_key_may_end_with_a_line_break(started, trained, monkeypatch):
    monkeypatch.setenv("TEXTWRIGHT_API_KEY", "sesame\n")
    app, _ = started(trained)
    assert get(app, "/v1/models", authorization="Bearer sesame").status_code == 200
    assert get(app, "/v1/models").status_code == 401


def test_a_request_of_more_texts_than_the_queue_holds_is_not_told_to_try_again(started, trained):
    app, _ = started(trained, "--queue", 4)
    [answer] = ask(app, {"prompt": "The", "n": 5})
    assert answer.status_code == 422
    assert "5 texts and beams, and 4 are the most" in answer.json()["error"]["message"]
    assert ask(app, {"prompt": "The", "n": 4})[0].status_code == 200


def test_only_a_server_of_this_machine_alone_minds_the_name_it_is_asked_by(started, trained):
    app, said = started(trained)
    assert "at http://127.0.0.1:" in said
    assert get(app, "/health", host="a.example").status_code == 400
    app, said = started(trained, "--host", "0.0.0.0", "--no-auth")
    assert "at http://0.0.0.0:" in said
    assert get(app, "/health", host="a.example").status_code == 200


def test_the_address_is_one_that_can_be_opened():
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        assert name_address("::1", bound) == f"http://[::1]:{port}"
        assert name_address("127.0.0.1", bound) == f"http://127.0.0.1:{port}"


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
