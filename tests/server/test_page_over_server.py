"""The page over a server: what it writes, what it asks for, and what it says where it cannot."""

import json
import subprocess

import pytest
from conftest import train_tiny
from serving import make_app, running
from web_engine import open_on_phone, wait_for_status

from textwright.api import load

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def mixed(notes, tmp_path_factory):
    """A small LSTM with counts beside it."""
    settings = ["model.embedding_size=8", "model.hidden_size=8", "train.max_steps=20"]
    settings += ["counts.longest=4", "train.sample_prompt=Slow"]
    return train_tiny(notes, settings, tmp_path_factory)


@pytest.fixture(scope="module")
def url(trained, mixed, formed):
    renamed = mixed.rename(mixed.with_name("mixed"))
    with running(make_app(trained, renamed, formed)) as address:
        yield address


@pytest.fixture
def page(browser, url):
    """The page of the server. It may report no error and ask nobody else."""
    with open_on_phone(browser, url) as (page, requests):
        yield page
        assert {request[: len(url)] for request in requests} == {url}


def write(page, prompt, seed):
    page.fill("#prompt", prompt)
    page.fill("[name=seed]", str(seed))
    page.click("#write")
    wait_for_status(page, "a second")
    return page.inner_text("#text").removesuffix(" ■")


@pytest.mark.parametrize("seed", [0, 3, 2**64 - 1])
def test_the_page_writes_what_python_writes(page, trained, seed):
    (sample,) = load(trained).generate("Warm butter", seed=seed)
    assert write(page, "Warm butter", seed) == sample.text


def test_settings_are_those_of_the_server(page, trained):
    page.click("#all-settings summary")
    changed = {"temperature": 0.6, "top_k": 9, "min_p": 0.01, "presence_penalty": 0.5}
    for name, value in {**changed, "min_new_tokens": 20, "max_new_tokens": 25}.items():
        page.fill(f"[name={name}]", str(value))
    page.fill("[name=stop]", "butter")
    options = {**changed, "min_new_tokens": 20, "max_new_tokens": 25, "stop": ["butter"]}
    (sample,) = load(trained).generate("", seed=7, **options)
    assert write(page, "", 7) == sample.text


def test_a_token_branches_and_the_rest_goes_on_as_its_seed_says(page):
    whole = write(page, "The soup", 5)
    page.click("#token-2")
    pressed = page.locator("#alternatives [aria-pressed=true]")
    expect(pressed).to_have_count(1)
    pressed.click()  # the token that it was: the same text again, with room for more
    expect(page.locator("#tree button")).to_have_count(2)
    wait_for_status(page, "a second")
    assert page.inner_text("#text").startswith(whole)
    page.click("#token-2")
    expect(page.locator("#choices h2")).to_contain_text(f"“{page.inner_text('#token-2').strip()}”")
    other = page.locator("#alternatives [aria-pressed=false]").first
    other.click()
    expect(page.locator("#tree button")).to_have_count(3)
    wait_for_status(page, "a second")
    assert page.inner_text("#token-0") + page.inner_text("#token-1") in whole


def test_another_run_can_be_chosen(page, mixed):
    list_of_runs, label = (page.locator(name).bounding_box() for name in ("#runs", "[for=prompt]"))
    assert label["y"] - list_of_runs["y"] - list_of_runs["height"] >= 8
    page.select_option("#runs", "mixed")
    expect(page.locator("#name")).to_have_text("mixed")
    (sample,) = load(mixed.with_name("mixed")).generate("Warm butter", seed=3)
    assert write(page, "Warm butter", 3) == sample.text


def test_another_run_leaves_what_was_typed_and_set(page, trained, formed):
    page.select_option("#runs", "mixed")
    assert page.input_value("#prompt") == "Slow"  # nothing was typed: the run's own
    page.fill("#prompt", "The soup")
    page.check("[name=boldness][value=careful]")
    page.click("#all-settings summary")
    page.fill("[name=top_k]", "7")
    page.select_option("#runs", trained.name)
    assert page.input_value("#prompt") == "The soup"
    names = ("temperature", "top_p", "top_k", "max_new_tokens")
    set_here = [page.input_value(f"[name={name}]") for name in names]
    assert set_here == ["0.5", "0.9", "7", "12"]  # the last is the run's own
    page.reload()
    wait_for_status(page, "Ready.")
    assert page.input_value("#prompt") == "The soup"


def test_the_chosen_run_and_its_fields_are_kept_for_the_window(page, formed):
    page.select_option("#runs", formed.name)
    page.check("#way-fields")
    page.fill("#fields input >> nth=0", "Soup")
    page.select_option("#runs", "mixed")
    expect(page.locator("#prompt")).to_be_visible()
    page.select_option("#runs", formed.name)
    for _ in range(2):
        assert page.input_value("#runs") == formed.name
        assert page.inner_text("#name") == formed.name
        expect(page.locator("#prompt")).to_be_hidden()
        values = [field.input_value() for field in page.locator("#fields input").all()]
        assert values == ["Soup", "", ""]
        page.reload()
        wait_for_status(page, "Ready.")


def test_the_server_says_what_cannot_be(browser, url):
    page = browser.new_page()
    page.goto(url)
    wait_for_status(page, "Ready.")
    page.click("#all-settings summary")
    page.fill("[name=stop]", "a\nb\nc\nd\ne")
    page.click("#write")
    wait_for_status(page, "give up to 4 strings")
    page.close()


def test_fields_begin_a_text(page, formed):
    page.select_option("#runs", formed.name)
    page.click("#ways label:last-child")
    page.fill("#fields input >> nth=0", "Soup")
    page.fill("[name=seed]", "4")
    page.click("#write")
    wait_for_status(page, "a second")
    writer = load(formed)
    stream = writer.generator.fill(writer.form(), {"course": "Soup"}, writer.options(), seed=4)
    [sample] = stream.samples()
    assert page.inner_text("#given") + page.inner_text("#text").removesuffix(" ■") == (
        sample.prompt + sample.text
    )


def test_texts_survive_a_reload_and_deletion_is_undone(page, tmp_path):
    text = write(page, "The soup", 5)
    page.fill("#text-name", "mine")
    page.keyboard.press("Enter")
    page.reload()
    wait_for_status(page, "Ready.")
    assert page.inner_text("#text").removesuffix(" ■") == text
    expect(page.locator("#tree button")).to_contain_text("mine")
    page.focus("#tree button")
    page.keyboard.press("Delete")
    expect(page.locator("#tree button")).to_have_count(0)
    page.click("#undo")
    expect(page.locator("#tree button")).to_contain_text("mine")
    with page.expect_download() as saved:
        page.click("#save-json")
    saved.value.save_as(tmp_path / "texts.json")
    page.set_input_files("#file", tmp_path / "texts.json")
    expect(page.locator("#tree button")).to_have_count(2)
    (tmp_path / "texts.json").write_text("no texts", "utf-8")
    page.set_input_files("#file", tmp_path / "texts.json")
    wait_for_status(page, "This file holds no texts")


def test_a_browser_that_keeps_nothing_is_told_and_used(browser, url):
    page = browser.new_page()
    page.add_init_script(
        "Object.defineProperty(globalThis, 'localStorage', { get() { throw new Error(); } });"
    )
    page.goto(url)
    wait_for_status(page, "Ready.")
    write(page, "The soup", 5)
    expect(page.locator("#unkept")).to_contain_text("keeps nothing for this page")
    page.close()


def test_a_key_is_asked_for_and_kept_for_the_window(browser, trained):
    with running(make_app(trained, key="open sesame")) as address:
        page = browser.new_page()
        page.goto(address)
        expect(page.locator("#key-field")).to_be_focused()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        wait_for_status(page, "does not take this key")
        for key in ("ключ", "“open sesame”"):  # no header can hold them
            page.fill("#key-field", key)
            page.keyboard.press("Enter")
            wait_for_status(page, "signs of ASCII alone")
            expect(page.locator("#key-field")).to_be_focused()
            page.reload()
            expect(page.locator("#key-field")).to_be_focused()
            assert page.evaluate("sessionStorage.getItem('textwright key')") is None
        page.fill("#key-field", "open sesame")
        page.keyboard.press("Enter")
        wait_for_status(page, "Ready.")
        expect(page.locator("#prompt")).to_be_focused()
        assert page.input_value("#key-field") == ""
        page.reload()
        wait_for_status(page, "Ready.")
        assert page.evaluate("localStorage.length") == 0
        page.click("#calls summary")
        expect(page.locator("#call")).to_contain_text('"Authorization: Bearer $TEXTWRIGHT_API_KEY"')
        page.close()


def test_another_key_leaves_what_was_typed(browser, trained, mixed):
    with running(make_app(trained, mixed.with_name("mixed"), key="open sesame")) as address:
        page = browser.new_page()
        page.goto(address)
        page.fill("#key-field", "open sesame")
        page.keyboard.press("Enter")
        wait_for_status(page, "Ready.")
        page.select_option("#runs", "mixed")
        page.fill("#prompt", "The soup")
        page.evaluate("sessionStorage.clear()")
        refusal = {"status": 401, "body": '{"error": {"message": "The key is missing or wrong."}}'}
        page.route("**/v1/completions", lambda route: route.fulfill(**refusal))
        page.click("#write")
        expect(page.locator("#key-field")).to_be_focused()
        page.unroute("**/v1/completions")
        page.fill("#key-field", "open sesame")
        page.keyboard.press("Enter")
        wait_for_status(page, "Ready.")
        assert page.input_value("#prompt") == "The soup"
        assert page.input_value("#runs") == "mixed"
        page.close()


def test_the_call_to_copy_is_that_of_the_newest_text(page):
    page.click("#calls summary")
    write(page, "The soup", 5)
    page.click("#another")
    wait_for_status(page, "a second")
    expect(page.locator("#call")).to_contain_text('"seed": 6')


def written_by_the_call(page):
    line = page.inner_text("#call")
    told = subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=30)
    return json.loads(told.stdout)["choices"][0]["text"]


def test_the_call_to_copy_writes_the_text_that_is_shown(page):
    page.click("#calls summary")
    first = write(page, "The soup", 5)
    write(page, "The soup", 6)
    page.locator("#tree button").first.click()
    assert written_by_the_call(page) == first
    page.click("#token-2")
    page.locator("#alternatives [aria-pressed=false]").first.click()
    expect(page.locator("#tree button")).to_have_count(3)
    wait_for_status(page, "a second")
    branch = page.inner_text("#text").removesuffix(" ■")
    assert branch != first
    page.click("#keep")
    page.click("#delete-others")  # what it branched from is gone
    expect(page.locator("#tree button")).to_have_count(1)
    assert written_by_the_call(page) == branch
    call = page.locator("#call")
    page.check("[name=kind][value=openai]")
    expect(call).to_contain_text('"begin": [')
    for kind in ("Python", "command line"):
        page.check(f"[name=kind][value='{kind}']")
        expect(call).to_contain_text("cannot begin a text with given tokens")
    page.fill("[name=seed]", "7")  # from now on, what would be written
    page.check("[name=kind][value=curl]")
    expect(call).to_contain_text('"seed": 7')
    expect(call).not_to_contain_text("begin")


def test_a_server_that_is_gone_is_told(browser, trained):
    page = browser.new_page()
    with running(make_app(trained)) as address:
        page.goto(address)
        wait_for_status(page, "Ready.")
    page.click("#write")
    wait_for_status(page, "The server cannot be reached")
    page.close()


FIRST_PART = """
const plain = fetch;
globalThis.fetch = async (path, given) => {
  const answer = await plain(path, given);
  if (path !== "v1/completions") return answer;
  const { value } = await answer.body.getReader().read();
  const start = (controller) => {
    controller.enqueue(value.subarray(0, value.indexOf(10) + 2)); // up to two line breaks
    globalThis.breakOff = () => controller.error(new TypeError("network error"));
  };
  return new Response(new ReadableStream({ start }));
};
"""
"""Of each text the first token comes, and then nothing until the connection breaks."""


@pytest.fixture
def begun(browser, url):
    """The page with a text that has begun."""
    page = browser.new_page()
    page.add_init_script(FIRST_PART)
    page.goto(url)
    wait_for_status(page, "Ready.")
    page.click("#write")
    expect(page.locator("#tree button")).to_have_count(1)
    yield page
    page.close()


def test_a_server_that_goes_away_in_mid_text_is_told_and_the_text_stays(begun):
    begun.evaluate("breakOff()")
    wait_for_status(begun, "The server went away in mid-text; what is shown stays.")
    word = begun.inner_text("#token-0").strip()
    expect(begun.locator("#tree [aria-current]")).to_contain_text(word)


def test_a_text_that_another_run_or_text_stops_is_told_of(begun):
    begun.select_option("#runs", "mixed")
    expect(begun.locator("#status")).to_have_text("Stopped: 1 token.")
    begun.click("#write")
    expect(begun.locator("#tree button")).to_have_count(1)
    begun.locator("#tree button").first.click()
    expect(begun.locator("#status")).to_have_text("Stopped: 1 token.")
