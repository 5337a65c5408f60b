"""What the server refuses, in a sentence, and that no body brings it down."""

import asyncio
import json
import math
import random
import threading
from collections.abc import Sequence

import pytest
from serving import ask, complete, events, get, make_app


@pytest.mark.parametrize(
    ("body", "status", "param", "sentence"),
    [
        ({"model": "../x"}, 404, "model", "There is no model '../x' here"),
        ({"suffix": "end"}, 400, "suffix", "from left to right"),
        ({"prompt": 5}, 422, "prompt", "a text, a list of texts"),
        ({"prompt": []}, 422, "prompt", "a text, a list of texts"),
        ({"prompt": [1, "a"]}, 422, "prompt", "a text, a list of texts"),
        ({"prompt": [10**9]}, 422, None, "There is no token 1000000000"),
        ({"prompt": [-1]}, 422, "prompt", "whole numbers from 0"),
        ({"max_tokens": -1}, 422, "max_tokens", "greater than or equal to 0"),
        ({"max_tokens": 0}, 422, None, "add echo"),
        ({"max_tokens": 10**9}, 422, "max_tokens", "are the most"),
        ({"n": 100, "prompt": ["a", "b"]}, 422, None, "200 texts and beams, and 128"),
        ({"n": 3, "best_of": 2}, 422, None, "cannot be below n"),
        ({"n": 1, "best_of": 2, "stream": True}, 422, None, "leave out stream"),
        ({"n": 3, "beams": 2}, 422, None, "n (3) needs at least as many beams"),
        ({"best_of": 2, "beams": 2}, 422, None, "leave out one of them"),
        ({"min_tokens": 20}, 422, None, "min_tokens (20) cannot exceed max_tokens (16)"),
        ({"temperature": -1}, 422, "temperature", "greater than or equal to 0"),
        ({"temperature": float("nan")}, 422, "temperature", "temperature"),
        ({"temperature": "1"}, 422, "temperature", "valid number"),
        ({"temperature": "-Infinity"}, 422, "temperature", "valid number"),
        ({"stream": 1}, 422, "stream", "valid boolean"),
        ({"presence_penalty": float("inf")}, 422, None, "presence_penalty"),
        ({"logprobs": 51}, 422, "logprobs", "less than or equal to 50"),
        ({"logit_bias": {"soup": 1}}, 422, "logit_bias", "integer"),
        ({"logit_bias": {"999999": 1}}, 422, None, "There is no token 999999"),
        ({"stop": ["a", "b", "c", "d", "e"]}, 422, "stop", "up to 4"),
        ({"stop": ""}, 422, "stop", "none of them empty"),
        ({"logit_bias": {"5": 101}}, 422, "logit_bias", "numbers from -100 to 100"),
        ({"begin": [-1]}, 422, "begin", "whole numbers from 0"),
        ({"fields": {"x": 1}}, 422, "fields", "texts by the names"),
        ({"tempature": 1}, 422, "tempature", "there is no such field"),
        (dict.fromkeys(map(str, range(100)), 1), 422, None, "0: there is no such field"),
        ({"fields": {"x": "y"}}, 422, "fields", "without a template"),
        ({"fields": {}, "prompt": "a"}, 422, None, "leave out the prompt"),
        (b'{"prompt": "\\ud800"}', 422, None, "half a character"),
        (b'{"prompt"', 400, None, "no JSON"),
        (b"\xff\xfe", 400, None, ""),
        (b"[" * 100_000, 400, None, ""),
        (b"[1]", 400, None, "no JSON object"),
        (b"", 400, None, "no JSON object"),
    ],
)
def test_a_wrong_body_is_refused_with_a_sentence(app, body, status, param, sentence):
    [answer] = ask(app, body)
    error = answer.json()["error"]
    assert answer.status_code == status, error
    assert sentence in error["message"]
    assert error["param"] == param
    assert error["message"].endswith(".")
    assert set(error) == {"message", "type", "param", "code"}


def test_a_body_that_is_not_sent_as_json_is_refused(app):
    [answer] = ask(app, {"prompt": "The"}, **{"content-type": "text/plain"})
    assert answer.status_code == 400
    assert "Content-Type: application/json" in answer.json()["error"]["message"]


def test_chat_and_unknown_paths_are_refused_with_a_sentence(app):
    [chat] = ask(app, {"messages": []}, path="/v1/chat/completions")
    assert (chat.status_code, chat.json()["error"]["code"]) == (400, "no_chat")
    assert "/v1/completions" in chat.json()["error"]["message"]
    assert get(app, "/v1/nothing").json()["error"]["type"] == "not_found_error"
    assert get(app, "/v1/completions").status_code == 405
    for path in ("/..%2f..%2fetc%2fpasswd", "/v1/models/..%2f..%2fconfig.toml"):
        assert get(app, path).status_code == 404


def test_a_body_that_is_too_long_is_refused(trained):
    app = make_app(trained, bytes=1000)
    [answer] = ask(app, {"prompt": "a" * 1000})
    assert answer.status_code == 413
    assert "more than 1000 bytes" in answer.json()["error"]["message"]


def test_too_many_log_probabilities_are_refused(trained):
    app = make_app(trained, logprobs=100)
    asked = {"prompt": [[5] * 10, [6] * 10], "echo": True, "max_tokens": 0}
    assert ask(app, {**asked, "logprobs": 5})[0].status_code == 200
    [answer] = ask(app, {**asked, "logprobs": 6})
    assert answer.status_code == 422 and answer.json()["error"]["param"] == "logprobs"
    assert "120 log-probabilities, and 100 are the most" in answer.json()["error"]["message"]
    written = {"prompt": [5] * 1000, "max_tokens": 25, "n": 2}
    assert ask(app, {**written, "logprobs": 2})[0].status_code == 200  # none of the prompt
    assert ask(app, {**written, "logprobs": 3})[0].status_code == 422
    for more in ({"best_of": 3}, {"beams": 3}):  # all are kept until it is known which are told
        assert ask(app, {**written, "logprobs": 2, **more})[0].status_code == 422


def test_a_text_of_too_many_tokens_is_not_read_for_its_ids(trained):
    app = make_app(trained, tokens=3)
    for prompt, status in (("salt salt salt", 200), ("salt salt salt salt", 422)):
        [answer] = ask(app, {"prompt": prompt, "add_special_tokens": True}, path="/tokenize")
        assert answer.status_code == status
    assert "has 4 tokens, and 3 are the most" in answer.json()["error"]["message"]


def test_each_beam_takes_tokens(trained):
    app = make_app(trained, tokens=100)
    asked = {"prompt": [5] * 10, "max_tokens": 15}
    assert ask(app, {**asked, "beams": 4})[0].status_code == 200
    [answer] = ask(app, {**asked, "beams": 5})
    assert answer.status_code == 422 and answer.json()["error"]["param"] == "max_tokens"
    assert "125 tokens" in answer.json()["error"]["message"]


def test_looks_take_places_in_the_queue(trained):
    app = make_app(trained, queue=4)
    service = app.state.service
    service.texts += 4  # as if others were written
    [answer] = ask(app, {"prompt": "The"}, path="/api/inspect")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    service.texts -= 4
    for answer in ask(app, *[{"prompt": "The"}] * 4, path="/api/inspect"):
        assert answer.status_code == 200
    assert service.texts == 0


def test_a_full_queue_is_answered_with_when_to_try_again(trained):
    app = make_app(trained, queue=4, batch_size=2)
    asked = {"prompt": "The", "n": 3, "max_tokens": 30, "seed": 1}
    answers = ask(app, *[asked] * 4)
    assert sorted(answer.status_code for answer in answers) == [200, 429, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["retry-after"] == "1"
    assert "4 are the most" in refused.json()["error"]["message"]
    assert app.state.service.texts == 0
    assert complete(app, **asked)["choices"]


def test_prompts_that_wait_to_be_read_have_places_and_no_more_time_than_others(
    trained, monkeypatch
):
    app, go_on = make_app(trained, queue=4, seconds=0.2), threading.Event()
    [served] = app.state.service.runs.values()
    read = served.ask

    def slowly(body):
        go_on.wait(20)
        return read(body)

    monkeypatch.setattr("textwright.server.service.LONG", 2)  # characters
    monkeypatch.setattr(served, "ask", slowly)
    try:
        answers = ask(app, *[{"prompt": "The", "n": 2}] * 3)
    finally:
        go_on.set()
    assert sorted(answer.status_code for answer in answers) == [400, 400, 429]
    codes = {answer.json()["error"]["code"] for answer in answers}
    assert codes == {"timeout", "queue_full"}
    assert app.state.service.texts == 0


def test_a_key_is_asked_for_by_all_but_the_health(trained):
    app = make_app(trained, key="sesame")
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic sesame"}):
        answer = get(app, "/v1/models", **headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    assert get(app, "/v1/models", authorization="Bearer sesame").status_code == 200
    assert get(app, "/health").status_code == 200


def test_on_this_machine_alone_no_other_name_is_answered(trained):
    app, open_to_all = make_app(trained, local=True), make_app(trained)
    for name in ("localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000"):
        assert get(app, "/health", host=name).status_code == 200, name
    names = ["a.example", "a.example:8000", "127.0.0.1.a.example", "x@localhost", "localhost:", ""]
    for name in names:
        for path in ("/", "/health", "/v1/models"):
            answer = get(app, path, host=name)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "wrong_host")
            assert "127.0.0.1, localhost and [::1]" in answer.json()["error"]["message"]
        assert get(open_to_all, "/health", host=name).status_code == 200


def test_an_answer_that_fails_is_an_error_with_the_headers_and_counted(trained, monkeypatch):
    async def fail(service, body):
        raise IndexError("broken")

    app = make_app(trained)
    monkeypatch.setattr("textwright.server.app.look", fail)
    [answer] = ask(app, {}, path="/api/inspect")
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "The server failed; its log has the reason."
    assert answer.headers["x-content-type-options"] == "nosniff"
    counted = 'textwright_requests_total{route="/api/inspect",status="500"} 1.0'
    assert counted in get(app, "/metrics").text


@pytest.mark.parametrize("path", ["/v1/completions", "/tokenize", "/api/inspect"])
def test_memory_that_runs_out_is_answered_with_when_to_try_again(trained, monkeypatch, path):
    def fail(*given):
        raise MemoryError

    app = make_app(trained)
    monkeypatch.setattr("textwright.server.served.read_prompts", fail)
    [answer] = ask(app, {"prompt": "The"}, path=path)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
    assert "Memory ran out" in answer.json()["error"]["message"]
    assert app.state.service.texts == 0


def test_a_stream_that_nobody_reads_gives_its_places_back(trained, monkeypatch):
    monkeypatch.setattr("textwright.server.app.UNREAD", 0.1)
    app = make_app(trained, seconds=0.1)
    asked = {"prompt": "The", "n": 8, "max_tokens": 1000, "stream": True}
    scope = {
        **{"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b""},
        "headers": [(b"content-type", b"application/json")],
    }
    body, places = {"type": "http.request", "body": json.dumps(asked).encode()}, []

    async def receive():
        if body:
            sent = dict(body)
            body.clear()
            return sent
        await asyncio.Event().wait()

    async def send(message):
        if message["type"] == "http.response.body":
            places.append(app.state.service.texts)
            await asyncio.Event().wait()  # as where all buffers are full

    async def post():
        async with asyncio.timeout(20):
            await app(scope, receive, send)

    asyncio.run(post())
    assert places == [8] and app.state.service.texts == 0


def test_the_page_has_a_policy_and_gives_its_own_files_alone(trained):
    app = make_app(trained, key="open sesame")
    answer = get(app, "/")
    assert answer.status_code == 200
    policies = answer.headers.get_list("content-security-policy")
    assert len(policies) == 1 and "script-src 'self'" in policies[0]
    assert answer.headers["x-content-type-options"] == "nosniff"
    script = get(app, "/web/online.js")
    assert script.headers["content-type"].startswith("text/javascript")
    for name in ("index.html", "none.js", "..%2fapi.py", "%2e%2e/api.py", ""):
        assert get(app, f"/web/{name}").status_code == 404, name
    assert get(app, "/api/runs").status_code == 401


def test_pages_of_named_origins_alone_may_read_the_answers(trained):
    for origins, allowed in (((), None), (("https://a.example",), "https://a.example")):
        app = make_app(trained, origins=origins)
        for origin in ("https://a.example", "https://b.example"):
            answer = get(app, "/v1/models", origin=origin)
            given = answer.headers.get("access-control-allow-origin")
            assert given == (allowed if origin == allowed else None)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_page_of_a_named_origin_may_send_what_openais_client_sends(trained):
    app = make_app(trained, origins=("https://a.example",), key="sesame")
    sent = ["authorization", "content-type", "x-stainless-lang", "x-stainless-retry-count"]
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": ",".join(sent),
    }
    for origin, status in (("https://b.example", 400), ("https://a.example", 200)):
        answer = get(app, "/v1/completions", "OPTIONS", origin=origin, **asked)
        assert answer.status_code == status
    assert answer.headers["access-control-allow-headers"].split(",") == sent
    answer = get(app, "/v1/models", origin="https://a.example", authorization="Bearer sesame")
    assert answer.headers["access-control-expose-headers"] == "Retry-After"


FIELDS: dict[str, Sequence] = {
    "prompt": ["The", "", "é🙂\u0000", ["a", "b"], [1, 2], [[3], []], None, 7, {"a": 1}, [None]],
    "max_tokens": [0, 1, 5, -1, 10**18, 1.5, "3", None, math.nan],
    "n": [1, 2, 0, 129, "x", None],
    "best_of": [1, 3, None],
    "stream": [True, False, "maybe"],
    "stream_options": [{"include_usage": True}, {}, [], {"x": 1}],
    "stop": ["a", ["a", " "], [], [1], "", None],
    "echo": [True, False, 2],
    "logprobs": [0, 1, 50, 51, True, None],
    "logit_bias": [{"5": 1}, {"5": math.inf}, {"-1": 1}, {"x": 1}, {"5": -100}, [], None],
    "temperature": [0, 1, 1e-300, 1e300, math.inf, -0.0, math.nan, "1", "Infinity"],
    "top_p": [1, 0.5, 0, 1e-12, 2],
    "top_k": [0, 1, 10**30, -1],
    "min_p": [0, 0.1, 1, 2],
    "typical_p": [1, 0.2, 0],
    "presence_penalty": [0, 2, -1e308, math.inf],
    "frequency_penalty": [0, 2, 1e308],
    "repetition_penalty": [1, 2, 0, 1e308, 1e-308],
    "no_repeat_ngram": [0, 1, 3, 10**9],
    "min_tokens": [0, 3, 99],
    "beams": [1, 3, 10**6],
    "seed": [0, 2**64 - 1, 2**64, -1, None],
    "fields": [{"course": "Soup"}, {"x": "y"}, {}, {"course": ""}, None],
    "return_token_ids": [True, False],
    "suffix": ["", "x", None],
    "user": ["me", 5],
    "model": [None, "trained", "\ud800", 3],
    "extra\ud800": [1],
}


def test_no_body_brings_the_server_down(formed, mixed):
    draw = random.Random(7)
    app = make_app(formed, mixed)
    statuses: dict[int, int] = {}
    for _ in range(40):
        bodies: list = []
        for _ in range(50):
            names = draw.sample([*FIELDS], draw.randint(0, 6))
            body = json.dumps({name: draw.choice(FIELDS[name]) for name in names}).encode()
            if draw.random() < 0.15:  # damaged on the way
                place = draw.randrange(len(body))
                body = body[:place] + draw.randbytes(draw.randint(0, 3)) + body[place + 1 :]
            bodies.append(body)
        for body, answer in zip(bodies, ask(app, *bodies), strict=True):
            assert answer.status_code in (200, 400, 404, 422, 429), (body, answer.text)
            if answer.status_code == 200 and answer.text.startswith("data"):
                assert not any("server_error" in str(event) for event in events(answer.text)), body
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    assert statuses[200] > 100 and statuses[422] > 100
    assert app.state.service.texts == 0
