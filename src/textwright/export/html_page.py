"""The modules of `web/` as one HTML file that asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

_WEB = files("textwright") / "web"
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)
_PART = 1 << 24  # letters of base64 in one element: browsers limit the length of a text


def read_web(name: str) -> str:
    """A file of `web/`."""
    return (_WEB / name).read_text("utf-8")


def link(name: str) -> str:
    """A module of `web/` and all that it imports, as one script in a scope of its own.

    A double click opens a file that may not load others, so imports are replaced by what they name.
    Each name at the top of a module is therefore unique in `web/`.
    """
    parts = (
        f"// {module}\n" + re.sub(r"^export ", "", _IMPORT.sub("", read_web(module)), flags=re.M)
        for module in _in_order(name, [])
    )
    return '"use strict";\n{\n' + "\n".join(parts) + "}\n"


def _in_order(name: str, seen: list[str]) -> Iterator[str]:
    """The module after those that it imports, each once."""
    if name in seen:
        return
    seen.append(name)
    for needed in _IMPORT.findall(read_web(name)):
        yield from _in_order(needed, seen)
    yield name


def make_page(run: dict[str, Any], packed: bytes) -> str:
    """The whole page. run: what `html_payload.describe` says · packed: its arrays, gzip."""
    style, script = read_web("page.css"), link("offline.js")
    # Scripts and styles that are not these, and all requests, are refused by the browser.
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "worker-src blob:; base-uri 'none'; form-action 'none'"
    )
    letters = base64.b64encode(packed).decode("ascii")
    elements = [
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        f"<style>{style}</style>",
        _data("run", "application/json", json.dumps(run, ensure_ascii=False, allow_nan=False)),
        _data("worker", "text/plain", link("worker.js")),
        *(
            _data("", "application/gzip;base64", letters[start : start + _PART])
            for start in range(0, len(letters), _PART)
        ),
        f"<script>{script}</script>",
    ]
    head, body = "\n".join(elements[:2]), "\n".join(elements[2:])
    page = read_web("index.html").replace("<!-- head -->", head).replace("<!-- scripts -->", body)
    return page.replace("<!-- title -->", html.escape(run["name"]))


def read_page(page: str) -> tuple[dict[str, Any], bytes]:
    """What `make_page` was given."""
    run = re.search(r'<script id="run"[^>]*>(.*?)</script>', page, re.DOTALL)
    parts = re.findall(r'<script id="" type="application/gzip;base64">(.*?)</script>', page)
    assert run is not None
    return json.loads(run[1]), base64.b64decode("".join(parts))


def _data(name: str, kind: str, text: str) -> str:
    # "<" is written so that nothing in the text can end the element; JSON and scripts read it back.
    safe = text.replace("<", "\\u003c") if kind == "application/json" else text
    return f'<script id="{name}" type="{kind}">{safe}</script>'


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
