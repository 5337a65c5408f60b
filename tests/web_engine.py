"""The engine of the page in a real browser, for tests: what it computes beside what Python does."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from textwright.export.html_page import link
from textwright.export.html_payload import describe, quantized, tables_of
from textwright.run import Arrays, Run

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
)


@contextmanager
def open_browser() -> Iterator[Any]:
    """A Chromium; tests that cannot have one are skipped."""
    sync_api = pytest.importorskip("playwright.sync_api")
    executable = shutil.which("chromium")
    if not executable:
        pytest.skip("needs chromium, and none is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def open_on_phone(browser: Any, url: str) -> Iterator[tuple[Any, list[str]]]:
    """A page that is ready to write, on a phone, and the addresses that it asks for. It may report
    no error."""
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    problems: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(url)
    wait_for_status(page, "Ready.")
    yield page, requests
    assert problems == []
    context.close()


def wait_for_status(page: Any, text: str) -> None:
    """Wait until the page says so."""
    expect = pytest.importorskip("playwright.sync_api").expect
    expect(page.locator("#status")).to_contain_text(text, timeout=30_000)


def expose(page: Any, module: str, *names: str) -> None:
    """Make names of a module of `web/` global in a page."""
    script = link(module).rstrip().removesuffix("}")
    page.add_script_tag(
        content=f"{script}\nObject.assign(globalThis, {{ {', '.join(names)} }});\n}}"
    )


def load_run(page: Any, run: Run, weights: str = "float32") -> None:
    """Make `engine` in the page, over a run's weights."""
    neural: Arrays = {}
    if not run.config.model.counted:
        neural = {name: np.asarray(array, np.float32) for name, array in run.weights().items()}
        neural = quantized(neural) if weights == "int8" else neural
    arrays = {n: np.ascontiguousarray(a) for n, a in (neural | tables_of(run)).items()}
    packed = base64.b64encode(gzip.compress(save(arrays), 1)).decode()
    page.evaluate(
        """async ([run, packed]) => {
            const arrays = readArrays(await unpack([packed]));
            globalThis.engine = new Engine(JSON.parse(run).engine, arrays);
        }""",
        [json.dumps(describe(run, "", weights)), packed],
    )


def call(page: Any, function: str, argument: Any = None) -> Any:
    """What a JavaScript function gives for an argument; as JSON, which Playwright's own form of
    large lists is many times slower than."""
    code = f"text => JSON.stringify(({function})(JSON.parse(text)))"
    return json.loads(page.evaluate(code, json.dumps(argument)))


# Requests → what the engine writes for each, as a sample has it.
WRITE = """requests => requests.map(({ seed, ...request }) => {
    const tokens = [...engine.write({ ...request, seed: BigInt(seed) })];
    const { stop_id } = engine.tokenizer;
    return {
        text: tokens.map((token) => token.text).join(""),
        ids: tokens.map(({ id }) => id).filter((id) => id !== null && id !== stop_id),
        reason: tokens.at(-1).finish_reason,
    };
})"""
