"""Fetch a model with the real hub client from a small hub on this machine."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE as CHUNK

from textwright.models.pretrained import Pretrained

REVISION = "0123456789abcdef0123456789abcdef01234567"
NEEDED = ["config.json", "tokenizer.json", "model.safetensors"]
OTHERS = [
    *("README.md", "pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "flax_model.msgpack"),
    *("onnx/model.safetensors", "tf_model.h5", "64.tflite", "rust_model.ot"),
]
FIND = """
import sys
from textwright.errors import PretrainedError
from textwright.models.pretrained import find_origin
try:
    found = find_origin(sys.argv[1])
    print(found.path, found.revision)
except PretrainedError as error:
    sys.exit(str(error))
"""


class Hub(ThreadingHTTPServer):
    """Serves one folder as the model cook/gpt2, and records each request for a file.

    break_off: bytes of the weights sent before the connection breaks, the first time.
    """

    def __init__(self, folder: Path, break_off: int = 0):
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder, self.break_off = folder, break_off
        self.sent: list[tuple[str, str]] = []  # (file, range asked for)


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        path = self.path.partition("?")[0]
        if path in [f"/api/models/cook/gpt2/revision/{name}" for name in ("main", REVISION)]:
            names = [{"rfilename": name} for name in NEEDED + OTHERS]
            answer = {"id": "cook/gpt2", "sha": REVISION, "siblings": names}
            self.answer(200, json.dumps(answer).encode(), body)
        elif path == f"/api/models/cook/gpt2/tree/{REVISION}":
            self.answer(200, json.dumps(self.tree()).encode(), body)
        elif path.startswith("/api/models/cook/gpt2/"):
            self.answer(404, b"", body, {"X-Error-Code": "RevisionNotFound"})
        elif found := re.fullmatch(r"/cook/gpt2/resolve/\w+/(.+)", path):
            self.send_file(found[1], body)
        else:
            self.answer(404, b"", body, {"X-Error-Code": "RepoNotFound"})

    def tree(self):
        sizes = {name: (self.server.folder / name).stat().st_size for name in NEEDED}
        return [
            {"type": "file", "path": name, "oid": "0" * 40, "size": sizes.get(name, 1)}
            for name in NEEDED + OTHERS
        ]

    def send_file(self, name, body):
        whole = (self.server.folder / name).read_bytes()
        asked = self.headers.get("Range", "")
        first = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        about = {"X-Repo-Commit": REVISION, "ETag": f'"{hashlib.sha1(whole).hexdigest()}"'}
        if asked:
            about["Content-Range"] = f"bytes {first}-{len(whole) - 1}/{len(whole)}"
        if body:
            self.server.sent.append((name, asked))
        cut = self.server.break_off if body and name == "model.safetensors" else 0
        if cut:
            self.server.break_off = 0
        self.answer(206 if asked else 200, whole[first:], body, about, cut)

    def answer(self, status, content, body, about=None, cut=0):
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **(about or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if body:
            self.wfile.write(content[:cut] if cut else content)
        self.close_connection = bool(cut)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(gpt2_folder):
    with Hub(gpt2_folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def find(hub, tmp_path):
    """`find_origin` in a process of its own: the client reads its environment once."""

    def ask(name: str, offline: bool = False):
        about = {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": str(int(offline)),
        }
        command = [sys.executable, "-c", FIND, name]
        return subprocess.run(command, env=os.environ | about, capture_output=True, text=True)

    return ask


def test_only_the_needed_files_are_fetched_and_once(hub, find, gpt2_folder):
    first = find("cook/gpt2")
    path, revision = first.stdout.split()
    assert revision == REVISION
    assert sorted(name for name, _ in hub.sent) == sorted(NEEDED)
    mine, theirs = Pretrained(Path(path), "").weights(), Pretrained(gpt2_folder, "").weights()
    assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)
    assert find(f"cook/gpt2@{REVISION}", offline=True).stdout == first.stdout


def test_a_download_that_breaks_off_goes_on_where_it_stopped(hub, find, gpt2_folder, tmp_path):
    hub.folder = shutil.copytree(gpt2_folder, tmp_path / "large")
    weights = np.random.default_rng(0).bytes(2 * CHUNK)  # fetched, but not read
    (hub.folder / "model.safetensors").write_bytes(weights)
    hub.break_off = CHUNK + 1000
    path, _ = find("cook/gpt2").stdout.split()
    ranges = [asked for name, asked in hub.sent if name == "model.safetensors"]
    assert ranges == ["", f"bytes={CHUNK}-"]
    assert (Path(path) / "model.safetensors").read_bytes() == weights


def test_a_model_that_the_hub_does_not_have_is_refused_in_a_sentence(find):
    for name in ("cook/stews", "cook/gpt2@nowhere"):
        asked = find(name)
        assert asked.returncode == 1
        assert f"neither a folder nor a model on the hub called {name};" in asked.stderr
