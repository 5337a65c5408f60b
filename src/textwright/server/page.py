"""The page of a server: the files of `web/` as they are, under a policy that refuses all others."""

from __future__ import annotations

from importlib.resources import files

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {".js": "text/javascript", ".css": "text/css"}


def read_files() -> dict[str, tuple[str, str]]:
    """By name, the type and the text of each file that the page may load."""
    found = [file for file in (files("textwright") / "web").iterdir() if file.is_file()]
    return {
        file.name: (kind, file.read_text("utf-8"))
        for file in found
        for ending, kind in _TYPES.items()
        if file.name.endswith(ending)
    }


def make_index() -> str:
    """The page itself, which loads the others."""
    page = (files("textwright") / "web" / "index.html").read_text("utf-8")
    page = page.replace("<!-- title -->", "textwright")
    page = page.replace("<!-- head -->", '<link rel="stylesheet" href="web/page.css">')
    script = '<script type="module" src="web/online.js"></script>'
    return page.replace("<!-- scripts -->", script)
