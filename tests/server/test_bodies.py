"""Bodies of which everything is wrong: one error, since a million of them would take seconds."""

import pytest
from pydantic import ValidationError

from textwright.server.bodies import CompletionBody, DetokenizeBody, InspectBody, TokenizeBody

MANY = 20_000
NAMES = [str(number) for number in range(MANY)]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CompletionBody, {"begin": [""] * MANY}),
        (CompletionBody, {"prompt": [-1] * MANY}),
        (CompletionBody, {"prompt": [[None]] * MANY}),
        (CompletionBody, {"stop": [1] * MANY}),
        (CompletionBody, {"logit_bias": dict.fromkeys(NAMES, "")}),
        (CompletionBody, {"logit_bias": dict.fromkeys(NAMES, 101)}),
        (CompletionBody, {"logit_bias": dict.fromkeys(NAMES, True)}),
        (CompletionBody, {"logit_bias": {f"x{name}": 1 for name in NAMES}}),
        (CompletionBody, {"fields": dict.fromkeys(NAMES, 1)}),
        (CompletionBody, {"stream_options": dict.fromkeys(NAMES, True)}),
        (CompletionBody, dict.fromkeys(NAMES, 1)),
        (InspectBody, {"prompt": [""] * MANY}),
        (InspectBody, dict.fromkeys(NAMES, 1)),
        (TokenizeBody, {"fields": dict.fromkeys(NAMES, None)}),
        (DetokenizeBody, {"tokens": [1.5] * MANY}),
    ],
)
def test_many_wrong_items_are_few_errors(kind, body):
    with pytest.raises(ValidationError) as raised:
        kind.model_validate(body)
    assert raised.value.error_count() <= 2  # of a prompt: no text, and no ids


def test_entries_as_json_has_them_are_taken():
    body = CompletionBody.model_validate({"logit_bias": {"5": 1, "-1": -100, "007": 0.5}})
    assert body.logit_bias == {5: 1, -1: -100, 7: 0.5}
