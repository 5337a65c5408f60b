"""The page of an export as a person meets it: opened from a file, by keyboard, offline."""

import json
import re
import shutil

import pytest
from conftest import train_tiny
from web_engine import open_on_phone, wait_for_status

from textwright.api import load
from textwright.export import export_html, html_page
from textwright.run import Run

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser

PHONE, WIDE = {"width": 360, "height": 740}, {"width": 1300, "height": 900}


@pytest.fixture(scope="module")
def run(notes, tmp_path_factory):
    """A small word LSTM."""
    settings = ["model.embedding_size=8", "model.hidden_size=8", "train.max_steps=20"]
    return train_tiny(notes, [*settings, "sample.max_new_tokens=30"], tmp_path_factory)


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    """Its page, with float32 weights in several parts."""
    out = tmp_path_factory.mktemp("pages") / "story.html"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(html_page, "_PART", 4096)
        export_html(Run.load(run), out, weights="float32", license="CC <b>BY</b> 4.0")
    assert out.read_text("utf-8").count("application/gzip") > 3
    return out


@pytest.fixture
def page(browser, file):
    """The page, opened on a phone. It may report no error and ask for nothing else."""
    with open_on_phone(browser, file.as_uri()) as (page, requests):
        yield page
        assert {url for url in requests if not url.startswith("blob:")} == {file.as_uri()}


def wait_for_end(page):
    wait_for_status(page, "a second")


def test_the_page_writes_what_python_writes(page, run):
    for prompt, seed in [("", 0), ("Warm butter", 3), ("Peel two", 2**64 - 1)]:
        page.fill("#prompt", prompt)
        page.fill("[name=seed]", str(seed))
        page.click("#write")
        wait_for_end(page)
        text = page.inner_text("#text").removesuffix(" ■")
        (sample,) = load(run).generate(prompt, seed=seed)
        assert text == sample.text


def set_length(page, length):
    page.eval_on_selector("#all-settings", "details => details.open = true")
    page.fill("[name=max_new_tokens]", str(length))


def test_a_text_that_was_cut_off_goes_on_as_if_it_had_been_longer(page, run):
    page.fill("[name=seed]", "3")
    set_length(page, 5)
    page.click("#write")
    wait_for_end(page)
    page.reload()
    set_length(page, 4)
    page.click("#go-on")
    expect(page.locator("#token-8")).to_be_attached()
    wait_for_end(page)
    (sample,) = load(run).generate(seed=3, max_new_tokens=9)
    assert page.inner_text("#text") == sample.text
    expect(page.locator("#tree button")).to_have_count(1)
    set_length(page, 100)
    page.click("#go-on")  # to its end
    expect(page.locator("#go-on")).to_be_disabled()
    wait_for_end(page)
    (whole,) = load(run).generate(seed=3, max_new_tokens=109)
    assert whole.finish_reason == "stop"
    assert page.inner_text("#text").removesuffix(" ■") == whole.text
    expect(page.locator("#go-on")).to_be_disabled()


def test_a_branch_is_as_long_as_the_form_says_from_where_it_begins(page):
    set_length(page, 5)
    page.click("#write")
    wait_for_end(page)
    page.click("#token-3")
    page.fill("[name=min_new_tokens]", "20")
    page.fill("[name=max_new_tokens]", "20")
    page.locator("#alternatives [aria-pressed=false]").first.click()
    expect(page.locator("#token-22")).to_be_attached()
    wait_for_end(page)
    expect(page.locator("#text .token")).to_have_count(23)


def test_a_text_that_stands_there_is_not_written_twice(page):
    for seed, count in [("0", 1), ("0", 1), ("1", 2), ("0", 2)]:
        page.fill("[name=seed]", seed)
        page.click("#write")
        wait_for_status(page, "a second" if seed == "1" else "")
        expect(page.locator("#halt")).to_be_disabled()
        expect(page.locator("#tree button")).to_have_count(count)
    wait_for_status(page, "was written before")
    expect(page.locator("#tree [aria-current]")).to_contain_text("seed 0")


def test_a_page_that_is_loaded_again_is_as_it_was_left(page):
    page.fill("[name=seed]", "7")
    page.click("#write")
    wait_for_end(page)
    page.click("#another")
    wait_for_end(page)
    page.check("[name=boldness][value=careful]")
    set_length(page, 6)
    page.locator("#tree button").first.click()
    shown = page.inner_text("#text")
    page.reload()
    wait_for_status(page, "Ready")
    expect(page.locator("[name=boldness][value=careful]")).to_be_checked()
    expect(page.locator("[name=temperature]")).to_have_value("0.5")
    expect(page.locator("[name=max_new_tokens]")).to_have_value("6")
    expect(page.locator("[name=seed]")).to_have_value("8")
    assert page.inner_text("#text") == shown


def test_a_text_is_copied_with_its_prompt(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.fill("#prompt", "Warm butter")
    page.click("#write")
    wait_for_end(page)
    page.click("#copy-text")
    expect(page.locator("#copied-text")).to_have_text("Copied.")
    text = page.inner_text("#text").removesuffix(" ■")
    assert page.evaluate("navigator.clipboard.readText()") == "Warm butter" + text


def test_of_a_long_prompt_the_end_stands_before_the_text(page):
    page.fill("#prompt", "Warm butter. " * 500)
    page.click("#write")
    wait_for_end(page)
    given = page.inner_text("#given")
    assert given.startswith("[5,899 characters before] …")
    assert given.endswith("Warm butter.") and len(given) < 700


def test_everything_can_be_done_by_keyboard(page):
    page.focus("#prompt")
    page.keyboard.press("Control+a")
    page.keyboard.type("Warm butter")
    page.keyboard.press("Control+Enter")
    wait_for_end(page)
    page.focus("#text")
    tokens = page.query_selector_all("#text [role=option]")
    assert page.get_attribute("#text", "aria-activedescendant") == "token-0"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert tokens[2].get_attribute("aria-selected") == "true"
    before = page.inner_text("#text")
    page.keyboard.press("Enter")  # to the list of alternatives
    pressed = page.eval_on_selector_all(
        "#alternatives button", "all => all.map((one) => one.ariaPressed === 'true')"
    )
    assert pressed.count(True) <= 1
    other = pressed.index(False)
    for _ in range(other):
        page.keyboard.press("Tab")
    choice = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")  # the text branches
    wait_for_end(page)
    after = page.query_selector_all("#text [role=option]")
    assert after[2].text_content().strip() in (choice, "■")
    assert len(page.query_selector_all("#tree button")) == 2
    page.focus("#tree [aria-current]")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")  # back to the first text
    assert page.inner_text("#text") == before


def write_long(page, length=10**6):
    """Begin a text that goes on until it is stopped."""
    page.evaluate(
        """length => {
            const { elements } = document.getElementById("form");
            elements.min_new_tokens.value = elements.max_new_tokens.value = length;
        }""",
        length,
    )
    page.click("#write")
    expect(page.locator("#token-9")).to_be_attached()


def test_writing_is_stopped_and_begun_again_while_it_goes_on(page):
    write_long(page)
    page.focus("#halt")
    page.keyboard.press("Enter")
    wait_for_status(page, "Stopped: ")
    count = page.locator("#text .token").count()
    expect(page.locator("#status")).to_have_text(f"Stopped: {count} tokens.")
    assert page.evaluate("document.activeElement.id") == "write"
    words = page.inner_text("#text").split()[:3]
    expect(page.locator("#tree [aria-current]")).to_contain_text(" ".join(words))
    assert " ".join(words) in page.get_attribute("#text-name", "placeholder")
    write_long(page)
    page.evaluate("document.getElementById('form').elements.min_new_tokens.value = 0")
    page.evaluate("document.getElementById('form').elements.max_new_tokens.value = 12")
    page.click("#write")
    wait_for_end(page)
    expect(page.locator("#status")).to_have_text(re.compile("ended|Cut off"))
    expect(page.locator("#tree button")).to_have_count(3)


def test_a_word_for_how_bold_leaves_the_length_that_was_typed(page):
    page.click("#all-settings > summary")
    careful, bold = (page.locator(f"[name=boldness][value={word}]") for word in ("careful", "bold"))
    length, temperature = (page.locator(f"[name={of}]") for of in ("max_new_tokens", "temperature"))
    careful.check()
    length.fill("7")
    expect(careful).to_be_checked()
    bold.check()
    expect(length).to_have_value("7")
    expect(temperature).to_have_value("1.2")
    temperature.fill("0.6")
    expect(bold).not_to_be_checked()
    careful.check()
    expect(temperature).to_have_value("0.5")
    expect(length).to_have_value("7")


def test_the_focus_goes_on_where_what_had_it_is_gone(page):
    focused = "document.activeElement.id || document.activeElement.getAttribute('aria-current')"
    page.click("#write")
    wait_for_end(page)
    page.click("#token-3")
    page.locator("#alternatives [aria-pressed=false]").first.focus()
    page.keyboard.press("Enter")
    wait_for_end(page)
    assert page.evaluate(focused) == "text"
    assert page.get_attribute("#text", "aria-activedescendant") == "token-3"
    page.focus("#tree [aria-current]")
    page.keyboard.press("Delete")  # the branch
    assert page.evaluate(focused) == "true"
    page.keyboard.press("Delete")  # what it branched from
    assert page.evaluate(focused) == "undo"
    while page.is_enabled("#undo"):
        page.keyboard.press("Enter")
    assert page.evaluate(focused) == "true"


def test_a_token_that_a_key_selects_is_in_view(page):
    write_long(page)
    page.click("#halt")
    page.focus("#text")
    for key in ("End", "Home"):
        page.keyboard.press(key)
        place = page.get_attribute("#text", "aria-activedescendant")
        expect(page.locator(f"#{place}")).to_be_in_viewport()


def is_uncovered(page, selector):
    """Whether an element is in view, and nothing stands before it."""
    return page.eval_on_selector(
        selector,
        """element => {
            const { x, y, width, height } = [...element.getClientRects()].at(-1);
            return element.contains(document.elementFromPoint(x + width / 2, y + height / 2));
        }""",
    )


def tap(page, selector, share):
    """Tap an element that stands at this share of the window's height, which is scrolled there."""
    x, y = page.eval_on_selector(
        selector,
        """(element, share) => {
            const middle = () => {
                const { x, y, width, height } = [...element.getClientRects()].at(-1);
                return [x + width / 2, y + height / 2];
            };
            scrollBy(0, middle()[1] - share * innerHeight);
            return middle();
        }""",
        share,
    )
    page.mouse.click(x, y)


@pytest.mark.parametrize("viewport", [PHONE, WIDE])
def test_choices_come_into_view_and_leave_the_token_uncovered(page, viewport):
    page.set_viewport_size(viewport)
    write_long(page, 800)
    wait_for_end(page)
    choices = page.locator("#choices")
    for share in (0.05, 0.95):
        tap(page, "#token-400", share)
        expect(page.locator("#token-400")).to_have_attribute("aria-selected", "true")
        expect(choices).to_be_in_viewport(ratio=0.99)
        assert is_uncovered(page, "#token-400")
        page.click("#close-choices")
        expect(choices).to_be_hidden()
    for key, place in (("End", 799), ("Home", 0)):
        page.keyboard.press(key)  # "Close" went back to the text
        expect(page.locator(f"#token-{place}")).to_have_attribute("aria-selected", "true")
        expect(choices).to_be_in_viewport(ratio=0.99)
        assert is_uncovered(page, f"#token-{place}")
    page.click("#close-choices")
    page.keyboard.press("Enter")
    expect(page.locator("#alternatives button").first).to_be_focused()


def test_pointing_at_a_token_is_enough_until_one_is_tapped(page):
    page.set_viewport_size(WIDE)
    write_long(page, 30)
    wait_for_end(page)
    selected, choices = page.locator("#text [aria-selected=true]"), page.locator("#choices")
    page.focus("#prompt")
    for place in (3, 5):
        page.hover(f"#token-{place}")
        expect(selected).to_have_id(f"token-{place}")
        expect(choices).to_have_attribute("aria-busy", "false")
        assert page.evaluate("document.activeElement.id") == "prompt"
    page.click("#token-4")
    page.hover("#token-6")
    page.wait_for_timeout(400)
    expect(selected).to_have_id("token-4")
    page.click("#close-choices")
    expect(choices).to_be_hidden()
    page.hover("#token-6")
    expect(choices).to_be_visible()
    expect(selected).to_have_id("token-6")


def test_the_list_beside_the_text_moves_nothing(page):
    page.set_viewport_size(WIDE)
    write_long(page, 12)
    wait_for_end(page)

    def edge(selector, side):
        code = f"element => element.getBoundingClientRect().{side} + scrollY"
        return page.eval_on_selector(selector, code)

    below = set()
    for place in range(12):
        page.click(f"#token-{place}")
        expect(page.locator("#choices")).to_have_attribute("aria-busy", "false")
        below.add(edge("#texts", "top"))
        assert edge("#inside", "top") - edge("#written > div", "bottom") < 20
    assert len(below) == 1


@pytest.mark.parametrize("place", [0, 4])
def test_a_chosen_token_stays_selected_so_that_others_can_be_tried_in_turn(page, place):
    page.set_viewport_size(WIDE)
    write_long(page, 30)
    wait_for_end(page)
    page.click(f"#token-{place}")
    tokens = [page.inner_text(f"#token-{number}") for number in range(place)]
    choices, pressed = page.locator("#choices"), page.locator("#alternatives [aria-pressed=true]")
    for count, number in enumerate((3, 5), start=2):
        expect(choices).to_have_attribute("aria-busy", "false")
        other = page.locator("#alternatives button").nth(number)
        name = other.inner_text()
        other.click()
        expect(page.locator("#tree button")).to_have_count(count)
        expect(page.locator("#text [aria-selected=true]")).to_have_id(f"token-{place}")
        expect(pressed).to_have_text(name)
        expect(choices).to_have_attribute("aria-busy", "false")
        assert [page.inner_text(f"#token-{number}") for number in range(place)] == tokens
        page.hover(f"#token-{place + 2}")
        page.wait_for_timeout(400)
        expect(page.locator("#text [aria-selected=true]")).to_have_id(f"token-{place}")
    page.focus("#text")
    page.keyboard.press("Enter")
    expect(page.locator("#alternatives button").first).to_be_focused()


def test_a_name_is_typed_while_its_text_ends_and_given_when_another_is_chosen(page):
    page.click("#write")
    wait_for_end(page)
    write_long(page, 3000)
    expect(page.locator("#tree button")).to_have_count(2)
    page.focus("#text-name")
    page.keyboard.type("mine")
    wait_for_end(page)
    first, second = page.locator("#tree button").all()
    first.click()
    expect(first).to_have_attribute("aria-current", "true")
    expect(second).to_contain_text("mine")


def test_saved_texts_are_opened_in_a_browser_that_has_none(page, browser, file, tmp_path):
    page.click("#write")
    wait_for_end(page)
    with page.expect_download() as saved:
        page.click("#save-json")
    saved.value.save_as(tmp_path / "texts.json")
    with open_on_phone(browser, file.as_uri()) as (fresh, _):
        expect(fresh.locator("#save-json")).to_be_hidden()
        with fresh.expect_file_chooser() as chosen:
            fresh.click("#open")
        chosen.value.set_files(tmp_path / "texts.json")
        wait_for_status(fresh, "Opened 1 text.")
        expect(fresh.locator("#tree button")).to_have_count(1)
        assert fresh.inner_text("#text") == page.inner_text("#text")
        expect(fresh.locator("#save-json")).to_be_visible()


def test_a_token_of_line_breaks_is_seen_and_tapped_and_copied_as_it_is(page, tmp_path):
    page.click("#write")
    wait_for_end(page)
    with page.expect_download() as saved:
        page.click("#save-json")
    document = json.loads(saved.value.path().read_text("utf-8"))
    document["texts"][0]["tokens"][2]["text"] = "\n\n"
    (tmp_path / "texts.json").write_text(json.dumps(document), "utf-8")
    page.set_input_files("#file", tmp_path / "texts.json")
    expect(page.locator("#tree button")).to_have_count(2)
    page.locator("#tree button").nth(1).click()
    token = page.locator("#token-2")
    token.scroll_into_view_if_needed()
    x, y, width, height = token.evaluate(
        "element => Object.values(element.getClientRects()[0].toJSON()).slice(0, 4)"
    )
    assert width >= 20
    assert token.text_content() == "\n\n" and "⏎" not in page.inner_text("#text")
    page.mouse.click(x + width / 2, y + height / 2)
    expect(token).to_have_attribute("aria-selected", "true")


def test_what_the_samplers_removed_is_marked(page):
    page.click("#all-settings summary")
    page.fill("[name=top_k]", "2")
    page.click("#write")
    wait_for_end(page)
    page.click("#token-0")
    rows = page.eval_on_selector_all("#alternatives tr", "all => all.map((one) => one.innerText)")
    removed = page.query_selector_all("#alternatives .removed")
    assert len(rows) >= 12
    assert len(removed) == len(rows) - 2
    assert all("removed" in row.inner_text() for row in removed)


def test_unknown_words_are_named(page):
    page.fill("#prompt", "Warm quarks and butter")
    expect(page.locator("#unknown")).to_contain_text("quarks")
    assert "butter" not in page.inner_text("#unknown")


def test_a_setting_out_of_range_is_refused_where_it_stands(page):
    page.click("#all-settings summary")
    page.fill("[name=top_p]", "2")
    page.click("#all-settings summary")
    page.click("#write")
    expect(page.locator("[name=top_p]")).to_be_focused()
    page.fill("[name=top_p]", "1")
    for number, valid in [("1e", False), (".", False), ("1e-1", True), (".5", True), ("2.", True)]:
        page.fill("[name=temperature]", number)
        assert bool(page.query_selector("[name=temperature]:valid")) is valid
    page.fill("[name=temperature]", "1")
    page.fill("[name=min_new_tokens]", "50")
    page.click("#write")
    expect(page.locator("[name=min_new_tokens]")).to_be_focused()
    page.fill("[name=max_new_tokens]", "50")
    page.click("#write")
    wait_for_end(page)


def test_the_page_fits_a_phone_and_says_whose_model_it_is(page):
    page.click("#write")
    wait_for_end(page)
    page.click("#token-1")
    for details in page.query_selector_all("details summary"):
        details.click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.inner_text("#license") == "CC <b>BY</b> 4.0"
    assert "held-out loss" in page.inner_text("#card")


def test_a_short_text_of_a_run_that_writes_long_ones(browser, run, tmp_path):
    long = shutil.copytree(run, tmp_path / "long")
    config = (long / "config.toml").read_text("utf-8")
    assert "min_new_tokens = 0\n" in config
    config = config.replace("min_new_tokens = 0\n", "min_new_tokens = 20\n")
    (long / "config.toml").write_text(config, "utf-8")
    export_html(Run.load(long), tmp_path / "long.html", weights="float32")
    with open_on_phone(browser, (tmp_path / "long.html").as_uri()) as (page, _):
        page.click("#all-settings summary")
        page.fill("[name=max_new_tokens]", "7")
        page.click("#write")
        wait_for_status(page, "7 tokens")
        page.click("#comparison summary")
        for side in range(2):
            page.locator(".side button").nth(side).click()
        page.click("#write-both")
        expect(page.locator("#comparison-status")).to_have_text("Both are written.", timeout=30_000)
        assert page.locator("#side-by-side .token").count() == 2 * 7


def test_a_kept_text_is_looked_at_once_the_model_is_there(browser, file):
    context = browser.new_context()
    page = context.new_page()
    page.goto(file.as_uri())
    wait_for_status(page, "Ready.")
    page.click("#write")
    wait_for_end(page)
    page.add_init_script(
        "const Plain = Worker;"
        "let open; const opened = new Promise((done) => { open = done; });"
        "globalThis.Worker = class extends Plain {"
        "  postMessage(...all) { opened.then(() => super.postMessage(...all)); }"
        "};"
        "globalThis.letOpen = open;"
    )
    page.reload()
    page.click("#token-1")
    expect(page.locator("#status")).to_contain_text("Unpacking")
    page.evaluate("letOpen()")
    expect(page.locator("#choices h2")).to_contain_text("had a probability of")
    context.close()


def test_without_workers_the_page_says_so(browser, file):
    page = browser.new_page()
    page.add_init_script("delete globalThis.Worker")
    page.goto(file.as_uri())
    wait_for_status(
        page, "This browser has no workers, which the page writes with; use a newer one."
    )
