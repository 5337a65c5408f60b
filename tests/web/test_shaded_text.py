"""A text of shaded tokens, apart from the page."""

import pytest
from web_engine import expose

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser):
    """A page with such a text, `shaded`, that has no token yet. It may report no error."""
    page = browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    expose(page, "shaded_text.js", "ShadedText")
    page.evaluate(
        """() => {
            const element = document.createElement("div");
            element.tabIndex = 0;
            document.body.append(element);
            globalThis.shaded = new ShadedText(element, "token", () => {});
            shaded.show([]);
        }"""
    )
    yield page
    assert problems == []
    page.close()


def test_keys_do_nothing_where_there_is_no_token_yet(page):
    page.focus("div")
    for key in ("ArrowRight", "ArrowLeft", "Home", "End"):
        page.keyboard.press(key)
    assert page.get_attribute("div", "aria-activedescendant") is None


def test_the_less_a_token_was_expected_the_stronger_its_shade(page):
    levels = page.evaluate(
        """() => {
            shaded.show([1, 0.25, 1e-9, 0, null].map((before) => ({ text: "a", before })));
            return [...shaded.text.children].map(({ style }) => style.getPropertyValue("--level"));
        }"""
    )
    assert levels == ["", "0.2", "1", "1", ""]
