"""What the browser keeps of a page, and what two windows of it make of that."""

import json

import pytest
from web_engine import wait_for_status

from textwright.export import export_html
from textwright.run import Run

expect = pytest.importorskip("playwright.sync_api").expect

SLOW = """
const send = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (message) {
  setTimeout(() => send.call(this, message), message.call === "more" ? 1000 : 0);
};
"""
"""The page asks for more of a text once a second: it is short, however fast the machine is."""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("pages") / "story.html"
    export_html(Run.load(trained), out, weights="float32")
    return out.as_uri()


@pytest.fixture
def window(browser, url):
    """Opens windows of one browser."""
    context = browser.new_context()

    def opened(script="0"):
        page = context.new_page()
        page.add_init_script(script)
        page.goto(url)
        wait_for_status(page, "Ready.")
        return page

    yield opened
    context.close()


def press(page, selector):
    """A click that does not wait until a window behind another is drawn."""
    page.eval_on_selector(selector, "element => element.click()")


def write(page, seed=0):
    page.fill("[name=seed]", str(seed))
    press(page, "#write")
    wait_for_status(page, "a second")


def texts(page):
    return page.locator("#tree button")


def leave(page):
    page.goto("about:blank")


def test_a_window_that_is_left_takes_nothing_from_another(window):
    idle, busy = window(), window()
    write(busy)
    leave(busy)
    leave(idle)
    expect(texts(window())).to_have_count(1)


def test_two_windows_show_and_keep_the_texts_of_both(window):
    one, other = window(), window()
    write(one, 1)
    expect(texts(other)).to_have_count(1)
    write(other, 2)
    expect(texts(one)).to_have_count(2)
    other.fill("#text-name", "mine")
    other.press("#text-name", "Enter")
    expect(texts(one).nth(1)).to_contain_text("mine")
    press(one, "#delete")  # the first, which was written here
    expect(texts(other)).to_have_count(1)
    expect(texts(other)).to_contain_text("mine")
    press(one, "#undo")
    expect(texts(other)).to_have_count(2)
    leave(other)
    leave(one)
    again = window()
    expect(texts(again)).to_have_count(2)
    expect(texts(again).nth(1)).to_contain_text("mine")


def test_a_text_that_is_written_meanwhile_stays(window):
    one, other = window(SLOW), window()
    one.evaluate(
        """() => {
            const { elements } = document.getElementById("form");
            elements.min_new_tokens.value = elements.max_new_tokens.value = 1e6;
        }"""
    )
    press(one, "#write")
    expect(one.locator("#token-9")).to_be_attached()
    write(other)
    expect(texts(one)).to_have_count(2)
    expect(one.locator("#halt")).to_be_enabled()
    press(one, "#halt")
    expect(texts(other)).to_have_count(2)
    assert one.locator("#text .token").count() > 20


def test_what_cannot_be_read_is_copied_before_its_place_is_taken(window):
    page = window()
    write(page)
    key = page.evaluate("Object.keys(localStorage)[0]")
    leave(page)
    page = window(f"localStorage.setItem({json.dumps(key)}, '{{ broken')")
    expect(page.locator("#unkept")).to_contain_text("cannot be read")
    write(page)
    kept = page.evaluate("({ ...localStorage })")
    assert kept[f"{key} (unreadable)"] == "{ broken"
    assert len(json.loads(kept[key])["texts"]) == 1


def test_what_the_browser_loses_meanwhile_is_kept_again(window):
    one, other = window(), window()
    write(one)
    expect(texts(other)).to_have_count(1)
    other.evaluate("localStorage.clear()")
    leave(one)
    expect(texts(other)).to_have_count(1)
    expect(texts(window())).to_have_count(1)


def test_a_run_with_another_vocabulary_has_texts_of_its_own(browser, url, trained, tmp_path):
    page = browser.new_page()
    page.goto(url)
    wait_for_status(page, "Ready.")
    write(page)
    fingerprint = Run.load(trained).tokenizer.fingerprint[:16]
    assert fingerprint in page.evaluate("Object.keys(localStorage)[0]")
    with page.expect_download() as saved:
        page.click("#save-json")
    text = saved.value.path().read_text("utf-8")
    assert fingerprint in text
    (tmp_path / "texts.json").write_text(text.replace(fingerprint, "another"), "utf-8")
    page.set_input_files("#file", tmp_path / "texts.json")
    wait_for_status(page, f"of another run named {trained.name}, with other tokens")
    expect(texts(page)).to_have_count(1)
    page.close()


def rate(page):
    expect(page.locator("#none-better")).to_be_enabled(timeout=30_000)
    press(page, "#none-better")


def test_ratings_of_two_windows_are_kept_and_a_full_browser_is_told(window):
    one, other = window(), window()
    for page in (one, other):
        press(page, "#comparison summary")
    counted = "#results td:nth-of-type(4)"  # the answers that could not say
    press(one, "#rate")
    rate(one)
    press(one, "#end-comparison")
    expect(other.locator(counted)).to_have_text("1")
    press(other, "#rate")
    rate(other)
    expect(one.locator(counted)).to_have_text("2")
    one.evaluate(
        """() => {
            Storage.prototype.setItem = () => { throw new DOMException("", "QuotaExceededError"); };
        }"""
    )
    press(one, "#rate")
    rate(one)
    expect(one.locator("#ratings-unkept")).to_be_visible()
    expect(one.locator("#ratings-unkept")).to_contain_text("no room")
