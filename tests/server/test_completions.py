"""Completions, in the process: texts, scores, streams, and what is refused."""

import asyncio
import json
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from conftest import TINY, train_tiny
from serving import ask, complete, events, get, make_app

from textwright.api import load
from textwright.evaluation.predictors import open_predictor
from textwright.inspection import inner
from textwright.inspection.saliency import saliency
from textwright.run import Run
from textwright.server import answers
from textwright.writing.engine import Engine

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def app(trained):
    return make_app(trained)


@pytest.fixture
def writer(trained):
    return load(trained)


def texts(answer) -> list[str]:
    return [choice["text"] for choice in answer["choices"]]


# --- texts -------------------------------------------------------------------------------------


def test_texts_are_those_of_their_seeds_whatever_is_written_beside_them(app, writer):
    prompts = ["The soup", "A", "The soup", ""]
    bodies: list[dict] = [
        {"prompt": prompts, "n": 3, "seed": 5, "max_tokens": 9},
        {"prompt": "Serve", "seed": 6, "max_tokens": 30, "temperature": 0.7, "top_k": 5},
        {"prompt": "The", "seed": 7, "beams": 3, "n": 2, "max_tokens": 6, "temperature": 0},
        {"prompt": "The", "seed": 8, "repetition_penalty": 1.3, "presence_penalty": 0.5},
        {"prompt": "The", "seed": 9, "min_p": 0.05, "typical_p": 0.9, "no_repeat_ngram": 2},
    ]
    answers = [answer.json() for answer in ask(app, *bodies * 2)]
    names = {"prompt": "prompts", "n": "num", "max_tokens": "max_new_tokens"}
    for body, first, second in zip(bodies, answers[:5], answers[5:], strict=True):
        options = {names.get(key, key): value for key, value in body.items()}
        wanted = writer.generate(**{"max_new_tokens": 16, **options})
        assert texts(first) == texts(second) == [sample.text for sample in wanted]
        assert [choice["index"] for choice in first["choices"]] == list(range(len(wanted)))
        new = sum(len(sample.ids) for sample in wanted)
        assert first["usage"]["completion_tokens"] == new


def test_a_seed_that_is_not_given_is_told_and_gives_the_text_again(app):
    first = complete(app, prompt="The", max_tokens=12)
    again = complete(app, prompt="The", max_tokens=12, seed=first["seed"])
    assert texts(first) == texts(again)
    assert complete(app, prompt="The")["seed"] != first["seed"]


def test_options_left_out_are_the_runs_own_but_for_length_and_beams(notes, tmp_path_factory):
    own = [s for s in TINY if "max_new_tokens" not in s]
    settings = ["sample.temperature=0", "sample.min_new_tokens=20", "sample.beams=3"]
    run = train_tiny(notes, [*own, *settings], tmp_path_factory)
    app = make_app(run)
    wanted = load(run).generate("The", max_new_tokens=16, min_new_tokens=16, beams=1)
    assert texts(complete(app, prompt="The", n=4)) == [wanted[0].text] * 4
    assert complete(app, prompt="The", n=4)["usage"]["completion_tokens"] == 64


def test_a_prompt_can_be_text_or_ids(app, writer):
    ids = writer.tokenizer.encode("The soup").tolist()
    stop = writer.tokenizer.stop_id
    bodies = [{"prompt": p, "seed": 1} for p in ("The soup", ids, [ids, ids], [stop, *ids])]
    of_text, of_ids, of_lists, of_row = [answer.json() for answer in ask(app, *bodies)]
    assert texts(of_text) == texts(of_ids) == texts(of_row) == texts(of_lists)[:1]
    assert [a["usage"]["prompt_tokens"] for a in (of_text, of_ids, of_lists, of_row)] == [
        len(ids),
        len(ids),
        2 * len(ids),
        1 + len(ids),
    ]
    empty = [{"prompt": p, "seed": 1} for p in (None, "", [[]], [stop])]
    assert len({tuple(texts(answer.json())) for answer in ask(app, *empty)}) == 1


def test_an_infinite_temperature_is_sent_as_a_word_because_json_has_no_number_for_it(app, writer):
    answer = complete(app, prompt="The", temperature="Infinity", top_k=3, seed=4, max_tokens=9)
    [wanted] = writer.generate("The", temperature=math.inf, top_k=3, seed=4, max_new_tokens=9)
    assert texts(answer) == [wanted.text]
    asked = {"prompt": "The", "temperature": "Infinity", "top_k": 3}
    [found] = ask(app, asked, path="/api/inspect")
    assert [entry["after"] for entry in found.json()["next"][:4]] == pytest.approx(
        [1 / 3] * 3 + [0]
    )


def test_stop_strings_end_a_text_and_are_left_out(app, writer):
    [whole] = texts(complete(app, prompt="The", seed=3, max_tokens=40))
    middle = whole[len(whole) // 2 :][:3]
    answer = complete(app, prompt="The", seed=3, max_tokens=40, stop=["never", middle])
    assert texts(answer) == [whole[: whole.index(middle)]]
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert (
        complete(app, prompt="The", seed=3, stop=middle[:1], min_tokens=16)["usage"][
            "completion_tokens"
        ]
        == 16
    )


def test_fields_are_given_and_the_others_written(formed):
    app, writer = make_app(formed), load(formed)
    answer = complete(app, fields={"course": "Soup"}, seed=2, n=2, echo=True, max_tokens=12)
    stream = writer.generator.fill(
        writer.form(), {"course": "Soup"}, writer.options(max_new_tokens=12), num=2, seed=2
    )
    assert texts(answer) == [sample.prompt + sample.text for sample in stream.samples()]
    assert texts(answer)[0].startswith("Soup")


def test_a_text_that_begins_with_given_ids_goes_on_as_its_seed_says(formed):
    app, writer = make_app(formed), load(formed)
    for begun in ({"prompt": "Soup"}, {"fields": {"course": "Soup"}}):
        asked = {**begun, "seed": 3, "max_tokens": 12, "return_token_ids": True, "logprobs": 0}
        [whole] = complete(app, **asked)["choices"]
        ids = whole["token_ids"]
        [again] = complete(app, **asked, begin=ids[:5])["choices"]
        assert again == whole
        [stopped] = complete(app, **asked, begin=[*ids[:5], writer.tokenizer.stop_id])["choices"]
        assert stopped["token_ids"] == ids[:5] and stopped["finish_reason"] == "stop"
    for wrong in ({"begin": [10**9]}, {"begin": [5] * 20}, {"begin": [5], "beams": 2}):
        assert ask(app, wrong)[0].status_code == 422


def test_ids_are_given_where_they_are_asked_for(app, writer):
    answer = complete(app, prompt="The soup", seed=4, max_tokens=7, return_token_ids=True)
    [sample] = writer.generate("The soup", seed=4, max_new_tokens=7)
    [choice] = answer["choices"]
    assert choice["token_ids"] == sample.ids
    assert choice["prompt_token_ids"] == writer.tokenizer.encode("The soup").tolist()
    assert "token_ids" not in complete(app, prompt="The")["choices"][0]


def test_the_best_of_several_is_that_of_the_highest_mean_log_probability(app, writer):
    answer = complete(app, prompt="The", seed=1, n=2, best_of=8, max_tokens=9)
    samples = writer.generate("The", seed=1, num=8, max_new_tokens=9, logprobs=True)
    everything = complete(app, prompt="The", seed=1, n=8, max_tokens=9, logprobs=0)
    means = [np.mean(choice["logprobs"]["token_logprobs"]) for choice in everything["choices"]]
    best = np.argsort(means)[::-1][:2]
    assert texts(answer) == [samples[place].text for place in best]
    assert answer["usage"]["completion_tokens"] == sum(len(sample.ids) for sample in samples)
    assert answer["choices"][0]["logprobs"] is None


# --- scores ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["trained", "mixed"])
def test_echoed_prompts_have_the_scores_that_evaluation_gives(kind, request):
    path = request.getfixturevalue(kind)
    run, app = Run.load(path), make_app(path)
    stop = run.tokenizer.stop_id
    documents = [*run.held_out("test")][:4]
    rows = [np.array([stop, *run.tokenizer.encode(text), stop]) for text in documents]
    wanted = [-nats for nats in open_predictor(run, "cpu").score(rows)]
    scoring = {"max_tokens": 0, "echo": True, "logprobs": 1, "temperature": 0.1}

    exact = complete(app, prompt=[row.tolist() for row in rows], **scoring)
    for row, choice, values in zip(rows, exact["choices"], wanted, strict=True):
        found = choice["logprobs"]
        assert found["token_logprobs"][0] is None is found["top_logprobs"][0]
        assert found["token_logprobs"][1:] == pytest.approx(values, abs=1e-4)
        assert len(found["tokens"]) == len(found["text_offset"]) == len(row)
        assert choice["finish_reason"] == "length"
    assert exact["usage"]["completion_tokens"] == 0

    read = complete(app, prompt=documents, **scoring)
    for text, choice, values in zip(documents, read["choices"], wanted, strict=True):
        assert choice["text"] == text
        assert choice["logprobs"]["token_logprobs"][0] is None
        assert choice["logprobs"]["token_logprobs"][1:] == pytest.approx(values[1:-1], abs=1e-4)


def test_the_likeliest_tokens_hold_the_argmax_and_the_token_itself(app, writer):
    found = complete(app, prompt="The soup", max_tokens=0, echo=True, logprobs=3)
    tokens, tops = (found["choices"][0]["logprobs"][key] for key in ("tokens", "top_logprobs"))
    [greedy] = writer.generate("The", temperature=0, max_new_tokens=1, logprobs=True)
    assert max(tops[1].values()) == pytest.approx(greedy.logprobs[0], abs=1e-5)
    assert tokens[1] in tops[1]
    assert 3 <= len(tops[1]) <= 4
    many = complete(app, prompt="The", max_tokens=1, logprobs=50)
    assert 50 <= len(many["choices"][0]["logprobs"]["top_logprobs"][0]) <= 51


def test_the_token_that_is_written_has_an_entry_even_where_it_is_the_stop(app, writer):
    stop = writer.tokenizer.stop_id
    answer = complete(
        app,
        prompt="The soup",
        max_tokens=1,
        echo=True,
        logprobs=1,
        logit_bias={str(stop): 100},
    )
    [choice] = answer["choices"]
    count = len(writer.tokenizer.encode("The soup"))
    assert choice["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 0
    assert len(choice["logprobs"]["tokens"]) == count + 1
    assert choice["logprobs"]["tokens"][-1] == writer.tokenizer.tokens([stop])[0]
    assert choice["logprobs"]["token_logprobs"][-1] < -0.5  # without the bias that forced it


def test_offsets_tell_where_tokens_begin_in_the_text(mixed):
    app, tokenizer = make_app(mixed), Run.load(mixed).tokenizer
    text = "Café, 3 onions é"
    [choice] = complete(app, prompt=text, max_tokens=8, echo=True, logprobs=0)["choices"]
    found = choice["logprobs"]
    for token, start in zip(found["tokens"], found["text_offset"], strict=True):
        if not token.startswith("bytes:") and start < len(choice["text"]):
            # Bytes that became no character are shown when the next token tells so.
            assert choice["text"][start:].lstrip("\ufffd").startswith(token)
    count = len(tokenizer.encode(text))
    spelled = [
        bytes.fromhex(token.removeprefix("bytes:").replace("\\x", ""))
        if token.startswith("bytes:")
        else token.encode()
        for token in found["tokens"][:count]
    ]
    assert b"".join(spelled).decode() == text


# --- streams -----------------------------------------------------------------------------------


@pytest.mark.parametrize("echo", [False, True])
def test_a_stream_gives_the_same_answer_in_pieces(app, echo):
    asked = {
        "prompt": ["The soup", "A"],
        **{"n": 2, "seed": 3, "max_tokens": 12, "logprobs": 2, "echo": echo},
        "return_token_ids": True,
    }
    whole = complete(app, **asked)
    [answer] = ask(app, {**asked, "stream": True, "stream_options": {"include_usage": True}})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, last = events(answer.text)
    assert last["usage"] == whole["usage"] and last["choices"] == []
    assert len(chunks) >= 4 * 12 / 2
    for choice in whole["choices"]:
        parts = [part for c in chunks for part in c["choices"] if part["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        for key, values in choice["logprobs"].items():
            assert [value for part in parts for value in part["logprobs"][key]] == values
        assert [i for part in parts for i in part["token_ids"]] == choice["token_ids"]
        reasons = [part["finish_reason"] for part in parts]
        assert reasons[-1] == choice["finish_reason"]
        assert set(reasons[:-1]) <= {None}
        sent = 0
        for part in parts:
            if part["logprobs"]["text_offset"] and not (echo and not sent):
                assert part["logprobs"]["text_offset"] == [sent]
            sent += len(part["text"])


def test_an_error_in_mid_stream_is_its_last_event(trained, monkeypatch):
    app = make_app(trained)
    step, count = Engine.step, 0

    def fail_later(engine):
        nonlocal count
        count += 1
        if count == 4:
            raise RuntimeError("broken")
        return step(engine)

    monkeypatch.setattr(Engine, "step", fail_later)
    [answer] = ask(app, {"prompt": "The", "stream": True, "max_tokens": 10, "seed": 1})
    *written, error = events(answer.text)
    assert answer.status_code == 200 and written
    assert error["error"]["type"] == "server_error"
    assert complete(app, prompt="The", seed=1)["choices"]  # a new engine writes on


def test_an_answer_that_takes_too_long_is_ended(trained):
    app = make_app(trained, seconds=0.05)
    asked = {"prompt": "The", "n": 100, "max_tokens": 1500, "logit_bias": {"0": -100}}
    whole, streamed = ask(app, asked, {**asked, "n": 28, "stream": True})
    assert whole.status_code == 400
    assert "longer than 0.05 seconds" in whole.json()["error"]["message"]
    assert events(streamed.text)[-1]["error"]["code"] == "timeout"
    assert app.state.service.texts == 0


# --- what is refused ---------------------------------------------------------------------------


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
        ({"fields": {"x": "y"}}, 422, None, "without a template"),
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


def test_an_answer_of_too_many_log_probabilities_is_refused(trained):
    app = make_app(trained, logprobs=100)
    asked = {"prompt": [[5] * 10, [6] * 10], "echo": True, "max_tokens": 0}
    assert ask(app, {**asked, "logprobs": 5})[0].status_code == 200
    [answer] = ask(app, {**asked, "logprobs": 6})
    assert answer.status_code == 422 and answer.json()["error"]["param"] == "logprobs"
    assert "120 log-probabilities, and 100 are the most" in answer.json()["error"]["message"]
    written = {"prompt": [5] * 1000, "max_tokens": 25, "n": 2}
    assert ask(app, {**written, "logprobs": 2})[0].status_code == 200  # none of the prompt
    assert ask(app, {**written, "logprobs": 3})[0].status_code == 422


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


# --- tokens, runs, counters --------------------------------------------------------------------


def test_tokens_are_read_and_given_back_as_clients_of_vllm_expect(mixed):
    app, tokenizer = make_app(mixed), Run.load(mixed).tokenizer
    told = get(app, "/tokenizer_info").json()
    ids = tokenizer.encode("Serve the soup").tolist()
    asked = {"prompt": "Serve the soup", "add_special_tokens": False}
    [read] = ask(app, asked, path="/tokenize")
    assert (read.json()["tokens"], read.json()["count"]) == (ids, len(ids))
    [stop] = ask(app, {"prompt": told["eos_token"]}, path="/tokenize")
    assert stop.json()["tokens"] == [tokenizer.stop_id]
    [text] = ask(app, {"tokens": ids}, path="/detokenize")
    assert text.json() == {"prompt": "Serve the soup"}
    [wrong] = ask(app, {"tokens": [10**20]}, path="/detokenize")
    assert wrong.status_code == 422


def test_the_next_tokens_are_told_before_and_after_sampling(app, writer):
    asked = {"prompt": "The soup", "top": 5, "top_k": 3, "temperature": 0.5}
    [answer] = ask(app, asked, path="/api/inspect")
    found = answer.json()
    before = [entry["before"] for entry in found["next"]]
    after = [entry["after"] for entry in found["next"]]
    assert before == sorted(before, reverse=True) and len(before) == 5
    squares = np.array(before[:3]) ** 2  # p^(1/T)
    assert after == pytest.approx([*(squares / squares.sum()), 0, 0], rel=1e-4)
    assert found["kept"] == 3
    scored = complete(app, prompt="The soup", max_tokens=1, logprobs=5, temperature=0)
    [likeliest] = scored["choices"][0]["logprobs"]["top_logprobs"]
    assert np.log(before) == pytest.approx([*likeliest.values()], abs=1e-4)
    ids = [token["id"] for token in found["tokens"]]
    assert ids == writer.tokenizer.encode("The soup").tolist()
    newest = {"prompt": ids[:-1], "begin": ids[-1:], "presence_penalty": 1000, "top": 200}
    [answer] = ask(app, newest, path="/api/inspect")
    chances = {entry["id"]: entry["after"] for entry in answer.json()["next"]}
    assert chances[ids[-1]] == 0 < chances[ids[0]]
    nothing = [ask(app, {"prompt": p}, path="/api/inspect")[0].json() for p in (None, [], "")]
    assert nothing[0]["tokens"] == [] and nothing[0] == nothing[1] == nothing[2]
    for wrong in ({"prompt": [5] * 2000, "inside": True}, {"top": 201}):
        assert ask(app, wrong, path="/api/inspect")[0].status_code == 422
    for wrong in ({"prompt": [10**9]}, {"top": 0}, {"top_p": 5}, {"logit_bias": {"999999": 1}}):
        assert ask(app, wrong, path="/api/inspect")[0].status_code == 422


def test_tokens_that_would_copy_the_training_text_are_shown_as_impossible(notes, tmp_path_factory):
    path = train_tiny(notes, [*TINY, "sample.no_copy=4"], tmp_path_factory)
    app, run = make_app(path), Run.load(path)
    held_out = {*run.held_out("test"), *run.held_out("validation")}
    text = next(note for note in notes.read_text("utf-8").splitlines() if note not in held_out)
    ids = run.tokenizer.encode(text).tolist()
    for count, possible in ((3, False), (2, True)):
        asked = {"prompt": ids[:count], "target": ids[count], "temperature": 1}
        found = ask(app, asked, path="/api/inspect")[0].json()
        chances = {entry["id"]: entry["after"] for entry in found["next"]}
        assert (chances[ids[count]] > 0) == possible
        assert (found["kept"] == run.tokenizer.vocab_size) == possible


def test_a_look_inside_the_model_is_that_of_inspection(trained, mixed):
    for path in (trained, mixed):
        app, run = make_app(path), Run.load(path)
        ids = run.tokenizer.encode("The soup").tolist()
        row, target = np.array([run.tokenizer.stop_id, *ids]), ids[0]
        asked = {"prompt": ids, "inside": True, "saliency": True, "target": target, "top": 200}
        found = ask(app, asked, path="/api/inspect")[0].json()
        assert [token["id"] for token in found["seen"]] == row.tolist()
        model = inner.open_model(run)
        gates = inner.summarize_gates(inner.gates_of(inner.trace(model, row)))
        assert found["gates"] == gates and found["attention"] is None
        wanted = saliency(model, row, np.array([len(row) - 1]), np.array([target]))
        assert found["saliency"] == pytest.approx(wanted[0], abs=1e-5)
        likelihood = next(entry for entry in found["next"] if entry["id"] == target)["before"]
        shares, parts = found["shares"], found["parts"]
        if run.counts is None:
            assert shares is parts is None
            continue
        assert sum(shares.values()) == pytest.approx(1)
        mixed_again = sum(shares[name] * parts[name] for name in shares)
        assert mixed_again == pytest.approx(likelihood, rel=1e-4)
    assert ask(app, {"target": 10**9, "saliency": True}, path="/api/inspect")[0].status_code == 422


def test_models_and_runs_are_listed(trained, formed):
    app = make_app(trained, formed)
    listed = get(app, "/v1/models").json()["data"]
    assert [model["id"] for model in listed] == [trained.name, formed.name]
    assert get(app, f"/v1/models/{formed.name}").json() == listed[1]
    described = get(app, "/api/runs").json()["runs"]
    assert described[1]["fields"] == ["course", "pans", "note"]
    assert described[0]["fields"] == []
    assert described[0]["tokenizer"]["size"] == Run.load(trained).tokenizer.vocab_size
    assert "held-out loss" in described[0]["card"]
    ids = {a["model"] for a in (complete(app), complete(app, model=formed.name))}
    assert ids == {trained.name, formed.name}


def test_what_was_done_is_counted(trained):
    app = make_app(trained)
    usage = complete(app, prompt="The soup", seed=1)["usage"]
    get(app, "/made/up")
    page = get(app, "/metrics").text
    written = f'textwright_new_tokens_total{{run="{trained.name}"}} {usage["completion_tokens"]}.0'
    assert written in page
    assert 'textwright_requests_total{route="/v1/completions",status="200"} 1.0' in page
    assert 'textwright_requests_total{route="none",status="404"} 1.0' in page
    assert "textwright_texts 0.0" in page


def test_the_schema_holds_all_routes_and_the_bounds_of_the_options(app):
    schema = get(app, "/openapi.json").json()
    routes = {"/v1/models", "/v1/completions", "/tokenize", "/detokenize", "/tokenizer_info"}
    assert routes | {"/api/runs", "/health", "/metrics"} <= schema["paths"].keys()
    top_p = schema["components"]["schemas"]["CompletionBody"]["properties"]["top_p"]
    assert top_p["anyOf"][0] == {"type": "number", "exclusiveMinimum": 0.0, "maximum": 1.0}
    assert "Keep only the likeliest tokens" in top_p["description"]
    for body in ("CompletionBody", "InspectBody"):
        temperature = schema["components"]["schemas"][body]["properties"]["temperature"]
        assert temperature["anyOf"] == [
            {"type": "number", "minimum": 0.0},
            {"type": "string", "const": "Infinity"},
            {"type": "null"},
        ]
        assert "Divides the logits" in temperature["description"]


def test_answers_are_as_the_schema_says(app, formed):
    everything = {"prompt": ["A", "soup"], "n": 2, "echo": True, "logprobs": 2}
    both = make_app(formed)
    for path, answer, asked in [
        ("/v1/completions", answers.CompletionAnswer, {**everything, "return_token_ids": True}),
        ("/v1/completions", answers.CompletionAnswer, {"beams": 2, "max_tokens": 3}),
        ("/tokenize", answers.Tokens, {"prompt": "A zebra", "return_token_strs": True}),
        ("/detokenize", answers.Text, {"tokens": [2, 3]}),
        ("/api/inspect", answers.Inspected, {"prompt": "A", "inside": True, "saliency": True}),
    ]:
        for served in (app, both):
            [found] = ask(served, asked, path=path)
            assert found.status_code == 200, found.text
            answer.model_validate_json(found.text)
    for path, answer in [
        ("/v1/models", answers.Models),
        (f"/v1/models/{formed.name}", answers.Model),
        ("/tokenizer_info", answers.TokenizerInfo),
        ("/api/runs", answers.Runs),
        ("/health", answers.Health),
    ]:
        answer.model_validate_json(get(both, path).text)
    for path in ("/v1/models/none", "/nothing", "/v1/completions"):
        refused = get(both, path)
        answers.Refusal.model_validate_json(refused.text)
        assert refused.status_code in answers.REFUSALS
    assert refused.headers["allow"] == "POST"


# --- whatever comes ----------------------------------------------------------------------------

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
