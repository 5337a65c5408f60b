"""Shaded texts: what they hold, and how they answer in a browser."""

import json
import re
import shutil

import numpy as np
import pytest

from textwright.report.page import Section, Table, render_html, write_page
from textwright.report.shading import BEHAVIOR, LookingBack, ShadedText

TEXT = ShadedText(
    ["a", "<b>", "c"],
    [0.0, 0.5, -1.0],
    ["says a", 'says "b"', "says c\nand more"],
    " ",
    "a shaded text",
    Table(["token", "bits"], [["a", "1.00"]]),
)
LOOKS = {
    "first": np.array([[1.0, 0, 0], [0.25, 0.75, 0], [0.1, 0.6, 0.3]]),
    "second": np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0.8, 0.1, 0.1]]),
}
LOOKING = LookingBack(
    ["x ", "y ", "</script>"],
    ["x", "y", "z"],
    LOOKS,
    ["when x:", "when y:", "when z:"],
    "",
    "looking back",
    percent=True,
)


def test_a_token_has_its_shade_and_what_is_said_of_it():
    shown = TEXT.html()
    assert (
        '<span class="token" style="--level:0.500" data-says="says &quot;b&quot;">&lt;b&gt;'
        in shown
    )
    assert '<span class="token less" style="--level:1.000"' in shown
    assert TEXT.markdown() == TEXT.table.markdown()


def test_looking_back_begins_with_the_last_row_and_holds_all_of_them():
    shown = LOOKING.html()
    assert re.findall(r"--level:([\d.]+)", shown) == ["0.167", "1.000", "0.500"]
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', shown)
    held = json.loads(data)
    assert held["looks"][0] == [[1000], [250, 750], [100, 600, 300]]
    assert held["names"] == ["x", "y", "z"]
    assert "| z | 30.0% | 10.0% |" in LOOKING.markdown()


@pytest.mark.browser
def test_pointer_keys_and_chooser_work_in_a_browser(tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    browser = shutil.which("chromium")
    if not browser:
        pytest.skip("needs chromium, and none is installed")
    write_page("Test", [Section("Both", [TEXT, LOOKING, BEHAVIOR])], tmp_path / "page.html")
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--no-first-run"]
        opened = playwright.chromium.launch(executable_path=browser, args=options)
        page = opened.new_page(viewport={"width": 390, "height": 800})
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        first, second = page.query_selector_all(".shading")

        def says(part):
            return part.query_selector(".says").text_content()

        assert says(first).startswith("Point at a token")
        first.query_selector_all(".token")[1].hover()
        assert says(first) == 'says "b"'
        first.query_selector(".shaded").press("ArrowRight")
        assert says(first) == "says c\nand more"
        assert says(second).splitlines() == ["when z:", "60.0 %  y", "30.0 %  z", "10.0 %  x"]
        second.query_selector("select").select_option("second")
        assert says(second).splitlines()[1] == "80.0 %  x"
        second.query_selector(".shaded").press("Home")
        assert says(second).splitlines() == ["when x:", "100.0 %  x"]
        assert "later" in second.query_selector_all(".token")[2].get_attribute("class")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert not errors
        opened.close()


def test_a_page_with_shades_asks_for_nothing_from_elsewhere():
    page = render_html("Test", [Section("Both", [TEXT, LOOKING, BEHAVIOR])])
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
