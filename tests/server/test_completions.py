"""Completions, in the process: texts, scores and streams."""

import math

import numpy as np
import pytest
from conftest import TINY, train_tiny
from serving import ask, complete, events, make_app

from textwright.api import load
from textwright.evaluation.predictors import open_predictor
from textwright.run import Run
from textwright.writing.engine import Engine


def texts(answer) -> list[str]:
    return [choice["text"] for choice in answer["choices"]]


# --- texts ---------------------------------------------------------------------------------------


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


# --- scores --------------------------------------------------------------------------------------


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


# --- streams -------------------------------------------------------------------------------------


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
