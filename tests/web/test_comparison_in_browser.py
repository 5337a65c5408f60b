"""Comparing, rating and looking inside, on a server's page and on an exported one."""

import json
from itertools import count, islice
from types import SimpleNamespace

import pytest
from conftest import TINY, train_tiny
from serving import make_app, running
from web_engine import open_on_phone, wait_for_status

from textwright.api import load
from textwright.export import export_html
from textwright.run import Run
from textwright.run.curve import read_curve

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

pytestmark = pytest.mark.browser

CAREFUL, BOLD = {"temperature": 0.5, "top_p": 0.9}, {"temperature": 1.2, "top_p": 0.98}
PROMPT = "Warm butter"


@pytest.fixture(scope="module")
def other(notes, tmp_path_factory):
    """A GPT with counts beside it."""
    settings = [s for s in TINY if not s.startswith("model.")]
    made = train_tiny(notes, [*settings, "counts.longest=3"], tmp_path_factory, "demo-gpt")
    return made.rename(made.with_name("other"))


@pytest.fixture(scope="module")
def served(trained, other):
    """A server of two runs: its address, and what each side of a comparison writes with."""
    with running(make_app(trained, other)) as address:
        sides = [(load(trained), {}), (load(other), {})]
        yield SimpleNamespace(url=address, sides=sides, names=[trained.name, "other"])


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """An exported page, likewise: two settings of the one run."""
    out = tmp_path_factory.mktemp("pages") / "story.html"
    export_html(Run.load(trained), out, weights="float32")
    sides = [(load(trained), CAREFUL), (load(trained), BOLD)]
    names = ["notes, temperature 0.5, top p 0.9", "notes, temperature 1.2, top p 0.98"]
    return SimpleNamespace(url=out.as_uri(), sides=sides, names=names)


@pytest.fixture(params=["served", "exported"])
def place(request):
    """Where a page comes from."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def page(browser, place):
    """The page on a phone; it may report no error."""
    with open_on_phone(browser, place.url) as (page, _):
        page.fill("#prompt", PROMPT)
        yield page
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def wait_until_ready(page):
    wait_for_status(page, "Ready.")
    page.fill("#prompt", PROMPT)


def write(page):
    page.click("#write")
    wait_for_status(page, "a second")


def open_comparison(page, seed=3):
    page.fill("[name=seed]", str(seed))
    page.click("#comparison summary")


def written_by(sides, seed):
    """What Python writes for each side."""
    return [writer.generate(PROMPT, seed=seed, **options)[0].text for writer, options in sides]


def texts_of(page, selector):
    """What is shown after the prompts."""
    shown = [story.inner_text() for story in page.query_selector_all(selector)]
    return [text.removesuffix(" ■").removeprefix(PROMPT) for text in shown]


def test_both_sides_write_what_python_writes_and_can_be_taken(page, place):
    open_comparison(page)
    page.click("#write-both")
    expect(page.locator("#comparison-status")).to_have_text("Both are written.", timeout=30_000)
    texts = texts_of(page, "#side-by-side .story")
    assert texts == written_by(place.sides, 3)
    headings = [title.inner_text() for title in page.query_selector_all("#side-by-side h3")]
    assert headings == place.names
    page.focus("#side-by-side [role=listbox]")
    page.keyboard.press("ArrowRight")
    said = page.locator("#side-by-side article:first-child .hint")
    expect(said).to_contain_text("had a probability of")
    page.locator("#side-by-side button").nth(1).click()
    expect(page.locator("#status")).to_contain_text("among the texts")
    assert page.inner_text("#text").removesuffix(" ■") == texts[1]
    assert page.locator("#tree [aria-current]").count() == 1


def seeds_that_differ(sides, first):
    """Seeds from the first on for which the sides write different texts."""
    return (seed for seed in count(first) if len(set(written_by(sides, seed))) == 2)


def rate(page, sides, seed):
    """Choose the text of the first side, by keyboard."""
    expect(page.locator("#first-better")).to_be_visible()  # those of a pair that is over are hidden
    expect(page.locator("#first-better")).to_be_enabled(timeout=30_000)
    shown, written = texts_of(page, "#pair .story"), written_by(sides, seed)
    assert sorted(shown) == sorted(written)
    assert page.evaluate("document.activeElement.id") == "pair-title"
    page.focus("#first-better" if shown[0] == written[0] else "#second-better")
    page.keyboard.press("Enter")


def results(page):
    return [
        [cell.inner_text() for cell in row.query_selector_all("th, td")]
        for row in page.query_selector_all("#results tbody tr")
    ]


def test_a_rating_is_blind_and_counts_for_the_side_that_wrote_the_text(page, place):
    open_comparison(page)
    page.click("#rate")
    seeds = list(islice(seeds_that_differ(place.sides, 3), 7))
    for seed in seeds[:6]:
        rate(page, place.sides, seed)
    expect(page.locator("#none-better")).to_be_enabled(timeout=30_000)
    assert not any(name in page.inner_text("#pair") for name in place.names)
    page.click("#none-better")
    expect(page.locator("#none-better")).to_be_enabled(timeout=30_000)
    page.click("#end-comparison")
    told = [*place.names, "6", "0", "1", "100\u00a0%, interval 54 to 100\u00a0%"]
    assert results(page) == [[*told, f"“{place.names[0]}” is better"]]
    page.reload()
    wait_until_ready(page)
    page.click("#comparison summary")
    assert results(page)[0][:6] == told
    page.click("#rate")  # goes on where it stopped, although the seed is that of the beginning
    page.click("#end-comparison")
    with page.expect_download() as download:
        page.click("#save-ratings")
    saved = json.loads(download.value.path().read_text("utf-8"))
    assert saved["results"][0]["better"] == [6, 0] and saved["results"][0]["ties"] == 1
    assert [rating["seed"] for rating in saved["ratings"]] == list(map(str, seeds))
    last = saved["ratings"][-2]
    assert (last["prompt"], last["texts"]) == (PROMPT, written_by(place.sides, seeds[5]))
    assert (last["better"], last["first"] in (0, 1)) == (0, True)
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#forget-ratings")
    expect(page.locator("#ratings")).to_be_hidden()


def test_rated_pairs_are_not_shown_again(page, place):
    open_comparison(page)
    page.click("#rate")
    seeds = seeds_that_differ(place.sides, 3)
    rate(page, place.sides, next(seeds))
    rate(page, place.sides, next(seeds))
    page.click("#end-comparison")
    page.click("#rate")
    rate(page, place.sides, next(seeds))


def test_settings_that_write_the_same_cannot_be_rated(page):
    open_comparison(page)
    first, second = page.query_selector_all(".side")
    if first.query_selector_all("select")[0].is_visible():
        second.query_selector_all("select")[0].select_option(index=0)
    for side in (first, second):
        side.query_selector_all("select")[1].select_option("own")
    page.click("#rate")
    told = page.locator("#comparison-status")
    expect(told).to_contain_text("the same text 10 times in a row", timeout=30_000)
    expect(page.locator("#pair")).to_be_hidden()


def test_a_side_takes_the_settings_of_the_form(page):
    page.click("#all-settings summary")
    page.fill("[name=temperature]", "0")
    page.fill("[name=top_k]", "7")
    open_comparison(page)
    page.locator(".side button").nth(1).click()
    expect(page.locator(".side .hint").nth(1)).to_contain_text("temperature 0, top k 7")


def test_what_the_model_looked_back_on_is_told_for_the_chosen_token(page, place, trained):
    write(page)
    page.click("#token-2")
    page.click("#inside summary")
    said = page.locator("#inside-said")
    expect(said).to_contain_text("The most:", timeout=30_000)
    views = page.locator("#inside-view option").all_inner_texts()
    gates = ["forget gate f", "input gate i", "candidate |C̃|", "cell |C|", "output gate o"]
    gates = [f"{name}, layer 1" for name in [*gates, "hidden state |h|"]]
    assert views == (["saliency"] if place.url.startswith("http") else []) + gates
    page.select_option("#inside-view", "forget gate f, layer 1")
    page.focus("#inside-text")
    expect(said).to_contain_text("(start)")
    page.keyboard.press("End")
    expect(said).to_contain_text("on average, units from")
    tokens = page.locator("#inside-text [role=option]").all_inner_texts()
    texts = load(trained).tokenizer.texts(load(trained).tokenizer.encode(PROMPT))
    written = [page.inner_text(f"#token-{place}").strip() for place in (0, 1)]
    assert [token.strip() for token in tokens] == ["(start)", *texts, *written]
    page.focus("#text")
    page.keyboard.press("ArrowRight")  # another token: one more was before it
    expect(page.locator("#inside-text [role=option]")).to_have_count(len(tokens) + 1)
    assert page.input_value("#inside-view") == "forget gate f, layer 1"


def test_a_mixture_shows_its_parts_and_a_gpt_its_attention(browser, served):
    page = browser.new_page()
    page.goto(served.url)
    wait_until_ready(page)
    page.select_option("#runs", "other")
    write(page)
    page.click("#token-1")
    page.click("#inside summary")
    expect(page.locator("#inside-parts tbody tr")).to_have_count(3, timeout=30_000)
    of_whole = page.locator("#inside-parts td:last-child").all_inner_texts()
    assert sum(float(part.strip("< %")) for part in of_whole) == pytest.approx(100, abs=0.2)
    views = page.locator("#inside-view option").all_inner_texts()
    assert {"saliency", "attention, mean of all heads", "attention, layer 1, head 1"} < {*views}
    page.close()


def test_the_loss_curve_is_a_drawing_with_a_table(page, trained):
    page.click("footer summary")
    drawing = page.get_by_role("img", name="Loss curve")
    expect(drawing).to_be_visible()
    curve = read_curve(Run.load(trained))
    assert page.locator("#curve circle").count() == len(curve.held_out) > 2
    page.click("#curve summary")
    rows = page.locator("#curve tbody tr").all_inner_texts()
    step, loss, bits = curve.held_out[-1]
    assert rows[-1].split() == [str(step), f"{loss / 0.6931471805599453:.3f}", f"{bits:.4f}"]
    assert f"{curve.held_out[-1][2]:.3f}" in page.inner_text("#curve .hint")
