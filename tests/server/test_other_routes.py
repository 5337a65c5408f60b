"""What is answered beside completions: tokens, looks, runs, counters and the schema."""

import shutil

import numpy as np
import pytest
from conftest import POSSIBLE_ENDS, TINY, train_tiny
from serving import ask, complete, get, make_app

from textwright.inspection import inner
from textwright.inspection.saliency import saliency
from textwright.run import Run
from textwright.server import answers


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


def test_tokens_of_several_runs_are_asked_for_by_the_name_of_one(trained, mixed, tmp_path):
    named = shutil.copytree(mixed, tmp_path / "mixed")
    app, tokenizer = make_app(trained, named), Run.load(mixed).tokenizer
    refused = get(app, "/tokenizer_info")
    for body, path in (({"prompt": "The"}, "/tokenize"), ({"tokens": [2]}, "/detokenize")):
        [answer] = ask(app, body, path=path)
        assert answer.json() == refused.json()
        [answer] = ask(app, {**body, "model": "mixed"}, path=path)
        assert answer.status_code == 200
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "model")
    sentence = f"name one as model ({trained.name}, mixed)"
    assert sentence in refused.json()["error"]["message"]
    told = get(app, "/tokenizer_info?model=mixed").json()
    assert told["vocab_size"] == tokenizer.vocab_size
    assert complete(app, prompt="The")["model"] == trained.name  # a text can be of any


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


def test_next_tokens_are_told_as_for_texts_where_the_run_has_beams(notes, tmp_path_factory):
    path = train_tiny(notes, [*TINY, "sample.beams=4", "sample.top_k=1"], tmp_path_factory)
    [answer] = ask(make_app(path), {"prompt": "The soup"}, path="/api/inspect")
    assert answer.json()["kept"] == 1
    [answer] = ask(make_app(path), {"prompt": "The soup", "beams": 2}, path="/api/inspect")
    assert answer.json()["kept"] == 2  # a search needs a second token to go on with


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


def test_the_end_is_shown_as_impossible_until_given_fields_have_come(formed):
    app, tokenizer = make_app(formed), Run.load(formed).tokenizer
    for fields, begun, possible in POSSIBLE_ENDS:
        asked = {"fields": fields, "begin": tokenizer.encode(begun).tolist()}
        asked["target"] = tokenizer.stop_id
        found = ask(app, asked, path="/api/inspect")[0].json()
        chances = {entry["id"]: entry["after"] for entry in found["next"]}
        assert (chances[tokenizer.stop_id] > 0) == possible


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
