"""axe-core finds nothing on any page, in all that it can show, on a phone and on a wide screen."""

import shutil

import pytest
from serving import make_app, running
from web_engine import expose, wait_for_status

from textwright.export import export_html
from textwright.run import Run

Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser

PHONE, WIDE = {"width": 360, "height": 740}, {"width": 1300, "height": 900}
NARROW = {"width": 320, "height": 568}  # also what a window of 1280 pixels has at a zoom of 400 %


@pytest.fixture
def page(browser):
    context = browser.new_context()
    yield context.new_page()
    context.close()


def check(page):
    """axe-core finds nothing in what the page shows now, and nothing is wider than the window."""
    for viewport, colors in ((NARROW, "light"), (PHONE, "dark"), (WIDE, "light")):
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=colors)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture(scope="module")
def server(trained, mixed, formed, tmp_path_factory):
    named = shutil.copytree(mixed, tmp_path_factory.mktemp("runs") / "mixed")
    with running(make_app(trained, named, formed)) as address:
        yield address


@pytest.fixture(scope="module")
def file(formed, tmp_path_factory):
    out = tmp_path_factory.mktemp("pages") / "dishes.html"
    export_html(Run.load(formed), out, license="CC BY 4.0", lossy=True)
    return out.as_uri()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["server", "file"])
def test_the_page_that_writes(request, page, kind):
    page.goto(request.getfixturevalue(kind))
    wait_for_status(page, "Ready.")
    check(page)
    page.eval_on_selector_all("details", "all => all.forEach((one) => { one.open = true; })")
    write_and_look(page)
    compare(page)
    fill_fields(page)


def write_and_look(page):
    """A text, branched once, with a look at a token and inside."""
    page.fill("#prompt", "Warm quarks")
    page.click("#write")
    wait_for_status(page, "a second")
    page.click("#token-0")
    page.locator("#alternatives [aria-pressed=false]").first.click()
    wait_for_status(page, "a second")
    page.click("#token-1")
    expect(page.locator("#choices")).to_be_visible()
    expect(page.locator("#inside-text .token").first).to_be_visible()
    page.click("#keep")
    page.fill("#text-name", "mine")
    page.keyboard.press("Enter")
    check(page)


def compare(page):
    """Side by side, then rated."""
    page.click("#write-both")
    expect(page.locator("#comparison-status")).to_contain_text("Both are written.")
    page.click("#column-0-0")
    check(page)
    page.click("#rate")
    expect(page.locator("#first-better")).to_be_enabled()
    check(page)
    page.click("#first-better")
    expect(page.locator("#pair-title")).to_contain_text("Pair 2")
    page.click("#end-comparison")
    expect(page.locator("#results")).to_be_visible()
    check(page)


def fill_fields(page):
    """Fields, one of which cannot be given."""
    if page.locator("#runs").is_visible():
        page.locator("#runs").select_option(index=2)
        wait_for_status(page, "")
    page.check("#ways [value=fields]")
    page.fill("#fields input >> nth=0", "a : b")
    page.click("#write")
    wait_for_status(page, "cannot be 'a : b'")
    check(page)


def test_every_token_of_a_text_has_a_name(page):
    expose(page, "shaded_text.js", "ShadedText")
    texts = ["Warm", " ", "", "\n\n", ""]
    names = page.evaluate(
        """texts => {
            document.documentElement.lang = document.title = "en";
            const list = document.createElement("main");
            list.innerHTML = "<h1>A text</h1><div role=listbox aria-label=Text tabindex=0></div>";
            document.body.append(list);
            const tokens = texts.map((text) => ({ text, before: 0.5, finish_reason: null }));
            tokens.at(-1).finish_reason = "stop";
            new ShadedText(list.lastChild, "token", () => {}).show(tokens);
            return [...list.lastChild.children].map((token) => token.ariaLabel);
        }""",
        texts,
    )
    assert names == [None, "␣", "no text of its own", "⏎⏎", "end of the text"]
    check(page)


def test_a_server_that_asks_for_its_key(page, trained):
    with running(make_app(trained, key="open sesame")) as address:
        page.goto(address)
        expect(page.locator("#key-field")).to_be_focused()
        check(page)


LOOKS = {
    "compare": ["--documents", 6, "--characters", 30, "--prompt", "Take", "--with", "inside"],
    "inspect": ["--prompt", "Slow soup"],
    "cues": ["--field", "course", "--num", 4],
    "memorisation": ["--texts", 3],
    "sweep": ["--temperatures", "0.5,1.0", "--texts", 10, "--max-new-tokens", 8],
}


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_of_a_look(page, tw, formed, tmp_path, look):
    out = tmp_path / "look.html"
    flag = "--out" if look in ("compare", "sweep") else "--html"
    code, _, err = tw(look, formed, *LOOKS[look], flag, out)
    assert code == 0, err
    page.goto(out.as_uri())
    check(page)
