"""The page while it waits for a server that takes its time, or that refuses."""

import json
import re
import shutil

import pytest
from serving import make_app, running
from web_engine import open_on_phone, wait_for_status

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(trained, formed, tmp_path_factory):
    """A server of two runs, the first of which has a rule against copies."""
    ruled = shutil.copytree(trained, tmp_path_factory.mktemp("runs") / "ruled")
    config = ruled / "config.toml"
    config.write_text(re.sub("no_copy = .*", "no_copy = 8", config.read_text("utf-8")), "utf-8")
    with running(make_app(ruled, formed)) as address:
        yield address


@pytest.fixture
def page(browser, url):
    with open_on_phone(browser, url) as (page, _):
        yield page


def hold(page, path):
    """Let requests to a path wait → they, to be let go."""
    held = []
    page.route(f"**/{path}", lambda route: held.append(route))
    return held


def let_go(page, held, *order):
    """Send what waits to the server, by number, and let the page take each answer."""
    for _ in range(1_000):
        if len(held) <= max(order):
            page.wait_for_timeout(10)
    for number in order:
        with page.expect_response(held[number].request.url):
            held[number].continue_()
        page.wait_for_timeout(300)  # the end of an answer is not always told of


def write(page):
    page.click("#write")
    wait_for_status(page, "a second")


def branch(page):
    page.click("#token-2")
    page.locator("#alternatives [aria-pressed=false]").first.click()


def test_what_is_waited_for_is_stopped(page):
    write(page)
    held = hold(page, "v1/completions")
    with page.expect_request("**/v1/completions"):
        branch(page)
    page.click("#halt")
    wait_for_status(page, "Stopped.")
    with page.expect_request("**/v1/completions"):
        branch(page)
    page.focus("#tree [aria-current]")
    page.keyboard.press("Delete")  # what the branch goes on from
    wait_for_status(page, "Stopped.")
    page.unroute_all()
    write(page)
    expect(page.locator("#tree button")).to_have_count(1)
    assert len(held) == 2


def test_a_text_is_not_written_for_a_run_that_was_left(page, formed):
    held = hold(page, "tokenize")
    with page.expect_request("**/tokenize"):
        page.click("#write")
    with page.expect_request("**/tokenize"):
        page.select_option("#runs", formed.name)
    let_go(page, held, 0, 1)
    page.unroute_all()
    page.fill("#prompt", "The quarks")
    expect(page.locator("#unknown")).to_contain_text("quarks")
    expect(page.locator("#tree button")).to_have_count(0)
    expect(page.locator("#status")).to_have_text("Stopped.")


def test_the_newest_beginning_is_the_one_that_is_told_of(page):
    held = hold(page, "tokenize")
    with page.expect_request("**/tokenize"):
        page.fill("#prompt", "quarks")
    with page.expect_request("**/tokenize"):
        page.fill("#prompt", "gluons")
    let_go(page, held, 1, 0)
    assert "gluons" in page.inner_text("#unknown")


def test_a_refused_question_does_not_end_a_text(browser, url):
    refusal = {"status": 429, "body": json.dumps({"error": {"message": "Too many requests."}})}
    page = browser.new_page()
    page.goto(url)
    wait_for_status(page, "Ready.")
    held = hold(page, "v1/completions")
    with page.expect_request("**/v1/completions"):
        page.click("#write")
    page.route("**/tokenize", lambda route: route.fulfill(**refusal))
    page.fill("#prompt", "quarks")
    expect(page.locator("#unknown")).to_have_text("Too many requests.")
    let_go(page, held, 0)
    wait_for_status(page, "a second")
    page.close()


def test_what_was_asked_of_another_token_goes_when_an_answer_is_refused(browser, url):
    page = browser.new_page()
    page.goto(url)
    wait_for_status(page, "Ready.")
    write(page)
    page.click("#token-1")
    page.click("#inside summary")
    expect(page.locator("#inside-said")).to_contain_text("The most:")
    expect(page.locator("#choices")).to_be_visible()
    refusal = {"status": 429, "body": json.dumps({"error": {"message": "Too many requests."}})}
    page.route("**/api/inspect", lambda route: route.fulfill(**refusal))
    page.click("#token-2")
    expect(page.locator("#inside-said")).to_have_text("Too many requests.")
    expect(page.locator("#inside-text")).to_be_hidden()
    expect(page.locator("#choices")).to_be_hidden()
    page.close()


def test_shades_are_offered_once_there_are_some(page):
    write(page)
    page.click("#token-1")
    expect(page.locator("#choices h2")).to_have_text(re.compile("\u00a0%$"))
    held = hold(page, "api/inspect")
    with page.expect_request("**/api/inspect"):
        page.click("#inside summary")
    expect(page.locator("#inside-said")).to_have_text("Looking inside…")
    expect(page.locator("#inside-view")).to_be_hidden()
    let_go(page, held, 0)
    expect(page.locator("#inside-view")).to_be_visible()


def test_rating_does_not_begin_after_it_was_stopped(page):
    page.click("#comparison summary")
    held = hold(page, "tokenize")
    with page.expect_request("**/tokenize"):
        page.click("#rate")
    page.click("#end-comparison")
    let_go(page, held, 0)
    assert page.locator("#pair").is_hidden() and page.locator("#end-comparison").is_disabled()


def test_settings_of_the_form_are_taken_without_what_another_run_lacks(page):
    page.click("#comparison summary")
    page.locator(".side button").nth(1).click()  # the other run
    page.click("#write-both")
    expect(page.locator("#comparison-status")).to_have_text("Both are written.", timeout=30_000)


def test_enter_goes_to_the_choices_of_the_token_that_is_selected(page):
    write(page)
    page.focus("#text")
    expect(page.locator("#choices")).to_be_visible()
    held = hold(page, "api/inspect")
    with page.expect_request("**/api/inspect"):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "text"
    let_go(page, held, 0)
    expect(page.locator("#alternatives button").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#tree button small").nth(1)).to_have_text(" from token 2")


def test_choices_are_taken_at_the_token_that_is_selected(page):
    write(page)
    page.click("#token-1")
    choices, others = page.locator("#choices"), page.locator("#alternatives [aria-pressed=false]")
    expect(choices).to_have_attribute("aria-busy", "false")
    held = hold(page, "api/inspect")
    with page.expect_request("**/api/inspect"):
        page.click("#token-2")
    expect(choices).to_have_attribute("aria-busy", "true")
    others.first.click()  # still those of token 1
    with page.expect_event("requestfailed"), page.expect_request("**/api/inspect"):
        page.click("#token-3")  # nobody waits for token 2 any more
    let_go(page, held[1:], 0)
    expect(choices).to_have_attribute("aria-busy", "false")
    expect(page.locator("#tree button")).to_have_count(1)
    others.first.click()
    expect(page.locator("#tree button small").nth(1)).to_have_text(" from token 4")


def test_a_file_of_another_run_is_refused(page, formed, tmp_path):
    write(page)
    with page.expect_download() as saved:
        page.click("#save-json")
    saved.value.save_as(tmp_path / "texts.json")
    page.select_option("#runs", formed.name)
    write(page)
    page.set_input_files("#file", tmp_path / "texts.json")
    wait_for_status(page, "of the run ruled: open it on the page of that run")
    expect(page.locator("#tree button")).to_have_count(1)


def test_a_key_is_used_where_the_browser_keeps_nothing(browser, trained):
    with running(make_app(trained, key="open sesame")) as address:
        page = browser.new_page()
        page.add_init_script(
            "Object.defineProperty(globalThis, 'sessionStorage', { get() { throw new Error(); } });"
        )
        page.goto(address)
        page.fill("#key-field", "open sesame")
        page.keyboard.press("Enter")
        wait_for_status(page, "Ready.")
        write(page)
        page.close()
