"""How soon an exported page writes its first token, and how fast it goes on, in Chromium.

    python benchmarks/page.py RUN --out page.json [--weights int8] [--rounds 5] [--tokens 500]

Each round opens the file in a new window. "first token" is the time from opening the file to the
first token on the page, with the click on Write as soon as that can be pressed; the speed is the
page's own, over all tokens, each of them shaded and with its list of alternatives.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright
from speed import commit, processor

from textwright.export import export_html
from textwright.run import Run

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
]
PATIENCE = 120_000  # milliseconds


def write_once(browser: Browser, file: Path, tokens: int) -> tuple[float, float]:
    """(seconds from opening to the first token, tokens a second)."""
    page = browser.new_page()
    start = time.perf_counter()
    page.goto(file.as_uri())
    expect(page.locator("#write")).to_be_enabled(timeout=PATIENCE)
    page.evaluate(
        """tokens => {
            const { elements } = document.getElementById("form");
            elements.min_new_tokens.value = elements.max_new_tokens.value = tokens;
        }""",
        tokens,
    )
    page.click("#write")
    page.wait_for_selector("#token-0", timeout=PATIENCE)
    first = time.perf_counter() - start
    status = page.locator("#status")
    expect(status).to_contain_text("a second", timeout=PATIENCE)
    speed = re.search(r"([\d,]+) a second", status.inner_text())
    assert speed is not None
    page.close()
    return first, float(speed[1].replace(",", ""))


def main() -> None:
    """Read the command line, write a page, open it again and again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--weights", default="int8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("page.json"))
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "page.html"
        page = export_html(Run.load(arguments.run), file, weights=arguments.weights, lossy=True)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        rounds = [write_once(browser, file, arguments.tokens) for _ in range(arguments.rounds)]
        version = browser.version
        browser.close()
    first, speed = map(statistics.median, zip(*rounds, strict=True))
    results = {
        "megabytes": page.bytes / 1e6,
        "cost_in_bits_per_character": page.cost,
        "seconds_to_first_token": first,
        "tokens_per_second": speed,
        "rounds": rounds,
        "load_before": load,
        "processor": processor(),
        "browser": version,
        "commit": commit(),
    }
    arguments.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    print(
        f"{page.bytes / 1e6:.2f} MB, costs {page.cost:.5f} bits per character; first token after "
        f"{first:.2f} s, {speed:,.0f} tokens a second (load before {load:.1f}; {processor()})"
    )


if __name__ == "__main__":
    main()
