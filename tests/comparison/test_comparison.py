"""Comparisons: scores against those of `evaluate`, known laws and other readers of the same model;
what is unfair is refused."""

import json
import math
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from textwright import api, grammar
from textwright.comparison import comparison as comparing
from textwright.comparison.audit import audit
from textwright.comparison.comparison import beginnings, compare_models, open_subject
from textwright.comparison.completions import CompletionServer, elias_delta_bits
from textwright.comparison.compressors import costs, primed_ppmd, primed_xz
from textwright.comparison.easy import measure_easy
from textwright.comparison.model_folder import ModelFolder
from textwright.comparison.proof import prove
from textwright.comparison.run_subject import RunSubject
from textwright.comparison.subjects import Codec, Measured, Writing, Written
from textwright.config import Config
from textwright.corpus import CorpusOptions
from textwright.errors import (
    CorpusError,
    EvaluationError,
    GenerationError,
    RunError,
    TextwrightError,
)
from textwright.evaluation.held_out import HeldOutText
from textwright.evaluation.kept import NOTHING_KEPT
from textwright.evaluation.predictors import open_predictor
from textwright.evaluation.runs import score_run
from textwright.evaluation.scores import HeldOut
from textwright.export import export_run
from textwright.report.comparison import short_names
from textwright.run import Run
from textwright.training.session import train_run
from textwright.writing.backend import window_start

QUICK = Writing(characters=40, texts=2)
SHORT = {"easy": False, "device": "cpu", "writing": QUICK}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def train(corpus, out, cache, preset, tiny, *settings):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TEXTWRIGHT_CACHE", str(cache))
        shared = [one for one in tiny if not one.startswith("model.")]
        config = Config.resolve(preset, settings=[*shared, *settings])
        for _ in train_run([corpus], out, config):
            pass
    return out


@pytest.fixture(scope="session")
def bpe(notes, tiny, tmp_path_factory):
    """A GPT over bytes, whose tokens keep all of a text."""
    out = tmp_path_factory.mktemp("runs") / "bpe"
    cache = tmp_path_factory.getbasetemp() / "cache"
    tokens = ["tokenizer.kind=bpe", "tokenizer.vocab_size=300"]
    shape = ["model.layers=1", "model.heads=2", "model.width=8"]
    return train(notes, out, cache, "demo-gpt", tiny, *tokens, *shape, "data.context_length=48")


@pytest.fixture(scope="session")
def exported(bpe, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "folder"
    export_run(Run.load(bpe), "transformers", out)
    return out


@pytest.fixture(scope="session")
def words(notes, tiny, tmp_path_factory):
    """A GPT over words, whose tokens lose spelling and spacing."""
    out = tmp_path_factory.mktemp("runs") / "words"
    cache = tmp_path_factory.getbasetemp() / "cache"
    shape = ["model.layers=1", "model.heads=2", "model.width=8", "tokenizer.vocab_size=60"]
    return train(notes, out, cache, "demo-gpt", tiny, *shape, "data.context_length=48")


@pytest.fixture(scope="session")
def mixed(notes, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "mixed"
    cache = tmp_path_factory.getbasetemp() / "cache"
    small = ["model.embedding_size=8", "model.hidden_size=8", "counts.longest=3"]
    return train(notes, out, cache, "demo", tiny, *small)


@pytest.fixture(scope="session")
def counted(notes, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "counted"
    cache = tmp_path_factory.getbasetemp() / "cache"
    config = Config.resolve(settings=["model.family=ngram", "corpus.unit=line"])
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TEXTWRIGHT_CACHE", str(cache))
        for _ in train_run([notes], out, config):
            pass
    return out


@pytest.fixture
def fresh(tmp_path):
    """Notes that no run has read."""
    file = tmp_path / "fresh.txt"
    file.write_text("".join(f"{note}\n" for note in grammar.documents(20, seed=99)), "utf-8")
    return file


# Scores


@pytest.mark.parametrize("kind", ["trained", "mixed", "counted", "bpe"])
def test_a_runs_score_is_that_of_evaluate(request, kind):
    path = request.getfixturevalue(kind)
    expected, _ = score_run(Run.load(path), device="cpu")
    [model] = compare_models([path], **SHORT).models
    assert model.score.bits_per_character == pytest.approx(expected.bits_per_character, rel=1e-6)
    assert model.score.interval == pytest.approx(expected.interval, rel=1e-6)
    assert model.score.bytes_charged == sum(
        len(text.encode()) for text in Run.load(path).held_out("test")
    )


def test_the_interval_of_a_model_with_itself_is_empty(trained):
    [pair] = compare_models([trained, trained], **SHORT).pairs
    assert (pair.difference, pair.interval) == (0.0, (0.0, 0.0))


def test_a_difference_is_that_of_the_scores_and_surer_than_they_are(trained, counted):
    found = compare_models([trained, counted], **SHORT)
    one, other = (model.score for model in found.models)
    [pair] = found.pairs
    gap = one.bits_per_character - other.bits_per_character
    assert pair.difference == pytest.approx(gap)
    assert pair.interval[0] < gap < pair.interval[1]
    width = pair.interval[1] - pair.interval[0]
    assert width < sum(score.interval[1] - score.interval[0] for score in (one, other))


class Truth:
    """The grammar itself: what no honest model can better."""

    name, kind, kept = "the truth", "folder", NOTHING_KEPT

    def measure(self, documents, on_progress):
        nats = [np.array([-grammar.log_probability(document)]) for document in documents]
        return Measured(nats, HeldOut.sized(documents, [np.array([0]) for _ in documents]))

    def write(self, prompts, writing, max_new_tokens):
        return Written(list(grammar.documents(len(prompts))), 1.0, None)

    def codec(self):
        return None

    def context(self):
        return ""

    def remarks(self):
        return []

    def parameters(self):
        return None

    def bytes(self):
        return None


def test_the_truth_wins_and_its_entropy_lies_in_its_interval(counted, tmp_path, monkeypatch):
    file = tmp_path / "many.txt"
    file.write_text("".join(f"{note}\n" for note in grammar.documents(400, seed=7)), "utf-8")
    given = open_subject
    monkeypatch.setattr(
        comparing, "open_subject", lambda name, *_: name if name is truth else given(name)
    )
    truth = Truth()
    found = compare_models([truth, counted], [file], **SHORT)
    best, other = found.models
    low, high = best.score.interval
    measures = grammar.measures()
    assert low < measures.entropy / math.log(2) / measures.characters < high
    assert other.score.interval[0] > high
    assert found.pairs[0].interval[1] < 0


# Another project's folder


def test_a_folder_made_from_a_run_scores_its_bits(bpe, exported):
    found = compare_models([bpe, exported], **SHORT)
    run, folder = found.models
    assert folder.kind == "folder"
    assert folder.score.bits_per_character == pytest.approx(run.score.bits_per_character, abs=1e-3)
    assert folder.score.tokens == run.score.tokens
    assert found.pairs[0].interval == pytest.approx((0.0, 0.0), abs=1e-3)
    assert "not known here" in folder.remarks[0]
    assert folder.parameters == run.parameters
    assert len(folder.written.texts) == len(found.prompts) == 2


def test_a_folders_tokens_must_give_the_text_back(exported, tmp_path):
    folder = tmp_path / "lossy"
    shutil.copytree(exported, folder)
    file = next(folder.glob("tokenizer.json"))
    content = json.loads(file.read_text("utf-8"))
    content["normalizer"] = {"type": "Lowercase"}
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(EvaluationError, match=r"does not give the text back: from 'Aha' its"):
        ModelFolder(folder, "cpu").measure(["Aha"], lambda done, total: None)


def test_an_export_whose_tokens_lose_something_pays_as_its_run_does(words, fresh, tmp_path):
    folder = tmp_path / "words"
    export_run(Run.load(words), "transformers", folder)
    fresh.write_text("Ah,   the SOUP of Zürich!\nTake 3 onions ,then wait.\n", "utf-8")
    run, export = (
        audit(name, [fresh], options=options, device="cpu")
        for name, options in ((words, None), (folder, CorpusOptions(unit="line")))
    )
    assert export.score.bits_per_character == pytest.approx(run.score.bits_per_character, abs=1e-3)
    assert export.proof.bytes == len(fresh.read_bytes()) - 2  # without the ends of lines
    assert "escape code" in export.remarks[0]
    found = compare_models([words, folder], **SHORT)
    assert found.pairs[0].interval == pytest.approx((0.0, 0.0), abs=1e-3)
    (folder / "escape_tokenizer.json").unlink()
    with pytest.raises(TextwrightError, match=r"No tokenizer at .*escape_tokenizer.json"):
        ModelFolder(folder, "cpu")
    (folder / "escape.json.gz").unlink()
    with pytest.raises(EvaluationError, match="textwright runs and their exports, which pay"):
        audit(folder, [fresh], options=CorpusOptions(unit="line"), device="cpu")


def test_a_folder_writes_past_its_context_as_it_is_scored(gpt2_folder):
    folder = ModelFolder(gpt2_folder, "cpu")
    prompts = ["Take", "Now peel the long carrots and wait. " * 30]
    lengths = [len(folder.tokens.encode(prompt)[0]) for prompt in prompts]
    assert lengths[0] < 128 < lengths[1]
    written = folder.write(prompts, Writing(temperature=0, characters=9_999), 150)
    expected = []
    for prompt in prompts:
        ids = [folder.start, *folder.tokens.encode(prompt)[0]]
        begun = len(ids)
        while len(ids) < begun + 150 and folder.stop not in ids[begun:]:
            seen = torch.tensor([ids[window_start(len(ids), 128) :]])
            with torch.inference_mode():
                ids.append(int(folder.model(seen).logits[0, -1].argmax()))
        expected.append([token for token in ids[begun:] if token != folder.stop])
    assert written.texts == [folder.tokens.decode(new) for new in expected]
    assert written.tokens == sum(map(len, expected)) > 150


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "config.json").unlink(), "it has no config.toml and no config"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "cannot load the model"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is damaged"),
        (
            lambda folder: (folder / "config.json").write_text('{"auto_map": {}}'),
            "brings its own code, which is not run here",
        ),
    ],
)
def test_a_foreign_folder_is_refused_with_a_sentence(exported, tmp_path, damage, sentence):
    folder = tmp_path / "folder"
    shutil.copytree(exported, folder)
    damage(folder)
    with pytest.raises(EvaluationError, match=sentence):
        open_subject(folder, "cpu")


def test_an_empty_or_missing_folder_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(EvaluationError, match="neither a run nor a folder with a model"):
        open_subject(tmp_path)
    with pytest.raises(EvaluationError, match="There is no "):
        open_subject(tmp_path / "none")


# A server


class Echo(BaseHTTPRequestHandler):
    """Answers as an OpenAI-compatible server does, from a run."""

    run: Run
    says_all = True  # the first token's log-probability too, and the end as a token without text
    broken = ""

    def do_GET(self):
        self.answer({"data": [{"id": "run"}]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.broken == "refuses":
            return self.answer({"error": {"message": "echo is not supported"}}, 400)
        if not asked.get("echo"):
            text = {"text": " and salt", "logprobs": None}
            return self.answer({"choices": [text], "usage": {"completion_tokens": 3}})
        tokenizer = self.run.tokenizer
        ids = tokenizer.encode(asked["prompt"])
        row = np.concatenate([[tokenizer.stop_id], ids, [tokenizer.stop_id]])
        [nats] = open_predictor(self.run, "cpu").score([row])
        texts = [*(tokenizer.decode([one]) for one in ids.tolist()), ""]
        values = (-nats).tolist()
        if not self.says_all:
            texts, values = texts[:-1], [None, *values[1:-1]]
        if self.broken == "shouts":
            texts = [text.upper() for text in texts]
        found = {"tokens": texts, "token_logprobs": values}
        given = None if self.broken == "silent" else found
        self.answer({"choices": [{"text": asked["prompt"], "logprobs": given}]})

    def answer(self, content, code=200):
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(bpe):
    handler = type("Handler", (Echo,), {"run": Run.load(bpe)})
    http = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", handler
    http.shutdown()
    http.server_close()
    thread.join()


def test_a_server_that_echoes_a_run_scores_its_bits(bpe, server):
    url, _ = server
    found = compare_models([bpe, f"{url}/v1"], **SHORT)
    run, served = found.models
    assert served.kind == "server"
    assert served.score.bits_per_character == pytest.approx(run.score.bits_per_character, abs=1e-6)
    assert served.score.bytes_charged == run.score.bytes_charged
    assert found.pairs[0].interval == pytest.approx((0.0, 0.0), abs=1e-6)
    assert served.written.tokens == 3 * len(found.prompts)
    assert served.parameters is served.bytes is None


def test_what_a_server_does_not_say_is_charged_by_plain_codes(bpe, server):
    url, handler = server
    handler.says_all = False
    document = next(Run.load(bpe).held_out("test"))
    subject = CompletionServer(url)
    found = subject.measure([document], lambda done, total: None)
    whole = RunSubject(Run.load(bpe), "cpu").measure([document], lambda done, total: None)
    tokenizer = Run.load(bpe).tokenizer
    first = tokenizer.decode(tokenizer.encode(document)[:1].tolist())
    plain = 8 * len(first.encode()) + elias_delta_bits(1 + len(document.encode()))
    said = whole.nats[0][1:-1].sum() / math.log(2)
    assert found.bits == pytest.approx(said + plain, abs=1e-3)
    assert any("charged 8 bits a byte" in remark for remark in subject.remarks())
    assert any("length is charged instead" in remark for remark in subject.remarks())


def test_a_character_that_a_servers_tokens_split_is_counted_once(server, monkeypatch):
    url, _ = server
    subject = CompletionServer(url)
    tokens = ["a", "bytes:\\xc3", "bytes:\\xa9", "bc", "bytes:\\xe2\\x80", "bytes:\\x93", "d"]
    found = {"tokens": tokens, "token_logprobs": [-1.0] * len(tokens)}
    monkeypatch.setattr(subject, "_complete", lambda **body: {"choices": [{"logprobs": found}]})
    measured = subject.measure(["aébc–d"], lambda done, total: None)
    assert measured.text.places[0].tolist() == [0, 1, 2, 2, 4, 5, 5]


def test_the_code_of_a_length_is_complete():
    """Kraft's sum of a code whose words are read one after another is at most 1."""
    assert [elias_delta_bits(n) for n in (1, 2, 3, 4, 8, 16)] == [1, 4, 4, 5, 8, 9]
    assert 0.85 < sum(2.0 ** -elias_delta_bits(n) for n in range(1, 1 << 16)) <= 1


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("silent", "gives no log-probabilities of the text"),
        ("refuses", "400: echo is not supported"),
        ("shouts", "does not give the text back"),
    ],
)
def test_a_server_that_cannot_be_scored_is_refused_with_a_sentence(server, broken, sentence):
    url, handler = server
    handler.broken = broken
    with pytest.raises(EvaluationError, match=sentence):
        CompletionServer(url).measure(["Take 3 onions."], lambda done, total: None)


def test_a_server_that_is_not_there_is_a_sentence():
    with pytest.raises(EvaluationError, match=r"does not answer .*; start the server"):
        CompletionServer("http://127.0.0.1:9", timeout=1)
    with pytest.raises(EvaluationError, match="is no URL of a server"):
        CompletionServer("ftp://host")


@pytest.mark.parametrize("url", ["http://localhost:80O0", "http://[::1", "http://:8000"])
def test_a_url_without_an_address_or_a_port_is_a_sentence(url):
    with pytest.raises(EvaluationError, match="is no URL of a server"):
        CompletionServer(url)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", "does not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "its answer breaks off"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\n{", "refuses what it is asked at /v1/mod"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull", "its answer is no JSON object"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "its answer is no JSON object"),
    ],
)
def test_an_answer_that_is_none_is_a_sentence(answer, sentence):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def speak():
            connection, _ = listening.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(answer)

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(EvaluationError, match=sentence):
            CompletionServer(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=10)
        thread.join()


# What is unfair


def test_a_run_that_read_the_text_is_refused_by_name(trained, bpe, tmp_path):
    run = Run.load(trained)
    file = tmp_path / "leak.txt"
    train = next(api_corpus(run).documents("train"))
    file.write_text(f"{next(grammar.documents(1, seed=99))}\n{train}\n", "utf-8")
    with pytest.raises(EvaluationError, match=r"was trained on 1 of the 2 documents of .*leak.txt"):
        compare_models([trained, bpe], [file], **SHORT)


def api_corpus(run):
    from textwright.run.recorded import recorded_corpus

    return recorded_corpus(run)


def test_a_corpus_file_that_trained_a_run_is_refused(trained, notes):
    with pytest.raises(EvaluationError, match=r"is the corpus that .* was trained on"):
        compare_models([trained], [notes], **SHORT)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c["files"][0].update(sha256="0"), "were trained on different corpora"),
        (lambda c: c["options"].update(split_salt="other"), "split their corpus in different"),
        (lambda c: c["options"].update(lowercase=True), "in different ways: lowercase is False"),
        (lambda c: c.update(template="{title}"), "template is '{text}' and '{title}'"),
    ],
)
def test_runs_that_cannot_share_a_text_are_refused(trained, tmp_path, change, sentence):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    file = other / "corpus.json"
    content = json.loads(file.read_text("utf-8"))
    change(content)
    file.write_text(json.dumps(content), "utf-8")
    (other / "checksums.json").unlink()
    with pytest.raises(EvaluationError, match=sentence):
        compare_models([trained, other], **SHORT)


def test_runs_of_other_corpora_are_compared_on_text_that_is_new_to_both(trained, fresh, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    file = other / "corpus.json"
    content = json.loads(file.read_text("utf-8"))
    content["files"][0]["sha256"] = "0"
    file.write_text(json.dumps(content), "utf-8")
    (other / "checksums.json").unlink()
    found = compare_models([trained, other], [fresh], **SHORT)
    assert found.held_out.to_json()["documents"] == 20
    assert found.pairs[0].difference == 0


def test_a_private_run_needs_a_corpus(trained, fresh, tmp_path):
    other = tmp_path / "private"
    shutil.copytree(trained, other)
    (other / "heldout.jsonl.gz").unlink()
    with pytest.raises(RunError, match="keeps no held-out documents"):
        compare_models([other], **SHORT)
    assert compare_models([other], [fresh], **SHORT).models


def test_without_a_run_the_text_must_be_named(exported, fresh):
    with pytest.raises(EvaluationError, match="Without a run there is no held-out text"):
        compare_models([exported], **SHORT)
    options = CorpusOptions(unit="line")
    found = compare_models([exported], [fresh], options=options, **SHORT)
    assert found.held_out.to_json()["documents"] == 20
    easy = compare_models([exported], [fresh], options=options, device="cpu", writing=QUICK)
    assert "no run says what to train them on" in easy.left_out[0]


def test_an_empty_corpus_is_a_sentence(trained, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("", "utf-8")
    with pytest.raises(CorpusError):
        compare_models([trained], [empty], **SHORT)


# Easy models


def test_counting_and_compressors_are_primed_with_the_training_text(counted):
    run = Run.load(counted)
    seen = next(api_corpus(run).documents("train"))
    new = next(run.held_out("test"))
    rows = {row.name: row for row in measure_easy(run, [seen, new], lambda *_: None).rows}
    assert list(rows) == ["unigrams", "5-grams", "PPMd", "xz"]
    for name, empty in {"PPMd": primed_ppmd(5, b""), "xz": primed_xz(b"", 1_000)}.items():
        known, unknown = (nats.sum() for nats in rows[name].measured.nats)
        unprimed = costs(empty, [new])[0][0].sum()
        assert unknown < 0.4 * unprimed, name
        assert known < 0.4 * unprimed, name
    assert known < 0.5 * unknown  # xz finds again what it has read
    unigrams, ngrams = (rows[name].measured.bits for name in list(rows)[:2])
    assert ngrams < 0.5 * unigrams


@pytest.mark.parametrize("name", ["PPMd", "xz"])
def test_a_stretch_costs_what_it_adds_to_all_before_it(name):
    known = "".join(f"{note}\n" for note in grammar.documents(20, seed=1)).encode()

    def primed():
        return primed_ppmd(5, known) if name == "PPMd" else primed_xz(known, 10_000)

    def size(data):
        compressor = primed()
        read = getattr(compressor, "encode", None) or compressor.compress
        return len(read(data)) + len(compressor.flush())

    text = "é".join(grammar.documents(60, seed=2))[:2_500]
    told = []
    [nats], [places] = costs(primed(), [text], lambda *said: told.append(said))
    assert places.tolist() == [0, 1_000, 2_000]
    ends = [text[:1_000], text[:2_000], text + "\0"]
    sizes = [size(b""), *(size(end.encode()) for end in ends)]
    assert (nats / math.log(2) / 8).tolist() == pytest.approx(np.diff(sizes).tolist())
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_document_is_read_stretch_by_stretch_and_nothing_of_it_twice():
    class OneStretch:
        def compress(self, data):
            assert len(data) <= 1_001
            return data

        def flush(self):
            return b""

    [nats], _ = costs(OneStretch(), ["a" * 3_000])
    assert (nats / math.log(2)).tolist() == pytest.approx([8_000, 8_000, 8_008])


def test_easy_rows_are_left_out_where_the_training_text_is_gone(trained, tmp_path):
    moved = tmp_path / "moved" / "deep" / "run"
    shutil.copytree(trained, moved)
    found = measure_easy(Run.load(moved), ["Take 3 onions."], lambda *_: None)
    assert not found.rows
    assert "are left out: " in found.left_out[0]
    assert "is gone" in found.left_out[0]


# The proof


@pytest.mark.parametrize("kind", ["trained", "mixed", "counted", "bpe", "exported"])
def test_a_decoder_restores_the_text_from_the_models_own_probabilities(request, kind, fresh):
    path = request.getfixturevalue(kind)
    options = None if kind != "exported" else CorpusOptions(unit="line")
    found = audit(path, [fresh], options=options, documents=2, device="cpu")
    assert found.proof is not None
    assert found.proof.documents == 2
    assert abs(found.proof.bits - found.proof.charged) <= 2 * found.proof.documents
    assert found.proof.largest <= 2.01
    assert found.proof.bytes == found.proof.characters == found.held_out.characters


def test_a_server_has_no_proof(server, fresh):
    url, _ = server
    found = audit(url, [fresh], options=CorpusOptions(unit="line"), documents=2)
    assert found.proof is None
    assert found.to_json()["proof"] is None


def test_a_score_that_is_not_the_price_of_the_text_is_found_out(bpe, fresh, monkeypatch):
    measure = RunSubject.measure

    def flattered(self, documents, on_progress):
        found = measure(self, documents, on_progress)
        return Measured([nats * 0.9 for nats in found.nats], found.text)

    monkeypatch.setattr(RunSubject, "measure", flattered)
    with pytest.raises(EvaluationError, match="its score is not to be trusted"):
        audit(bpe, [fresh], documents=1, device="cpu")


class Certain(Truth):
    """A model of three tokens (the end, a, b) that gives b a probability of e^-60."""

    name, context_length = "certain", None
    logits = np.array([[0.0, 0.0, -60.0]], np.float32)

    def measure(self, documents, on_progress):
        nats = [np.array([self.paid("_ab".index(letter)) for letter in d + "_"]) for d in documents]
        return Measured(nats, HeldOut.sized(documents, [np.arange(len(n)) for n in nats]))

    def paid(self, token):
        return math.log(2 + math.exp(-60)) - float(self.logits[0, token])

    def prefill(self, ids, lengths):
        return self.logits, None

    def step(self, ids, state):
        return self.logits, None

    def codec(self):
        return Codec(
            self,
            0,
            0,
            lambda document, writer: ["_ab".index(letter) for letter in document],
            lambda ids, reader: "".join("_ab"[id] for id in ids),
        )


def test_a_code_that_is_shorter_than_the_charge_proves_it():
    certain = Certain()
    found = prove(certain, certain.codec(), ["aba", "aa"])
    assert found.charged == pytest.approx(7 + 60 / math.log(2), abs=1e-6)
    assert found.bits < found.charged - 40
    assert 0 <= found.largest <= 2.01


# All together


def test_a_comparison_is_told_in_the_agreed_keys(trained, counted):
    found = compare_models([trained, counted], documents=8, **SHORT).to_json()
    assert {"documents", "characters", "fingerprint"} <= found["held_out"].keys()
    assert found["held_out"]["documents"] == 8
    keys = {"run", "bits_per_character", "interval", "tokens_per_second", "diversity"}
    assert all(keys | {"memorisation"} <= run.keys() for run in found["runs"])
    assert [set(pair) for pair in found["pairs"]] == [{"a", "b", "difference", "interval"}]
    assert found["protocol"]
    json.dumps(found, allow_nan=False)


def test_fields_are_scored_where_there_is_a_template(formed):
    [model] = compare_models([formed], documents=5, **SHORT).models
    assert model.adherence is not None
    assert set(model.adherence.fields) == {"course", "pans", "note"}


def test_fields_that_the_tokens_do_not_separate_are_left_out_with_a_sentence(formed, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(formed, other)
    file = other / "config.toml"
    template = "{course} : {pans} : {note}"
    assert template in file.read_text("utf-8")
    file.write_text(file.read_text("utf-8").replace(template, template.replace(" :", "")), "utf-8")
    (other / "checksums.json").unlink(missing_ok=True)
    found = compare_models([other], documents=5, **SHORT)
    assert found.models[0].adherence is None
    [sentence] = found.left_out
    assert sentence.startswith(f"How {other} keeps to its fields is left out: The fields course")


def test_prompts_are_the_beginnings_of_documents():
    documents = [f"one two three four five six {n}" for n in range(50)]
    found = beginnings(documents, 5, 100)
    assert len(found) == 5
    assert found[0] == ("one two three four five", " six 0")
    assert found[-1][1] == " six 49"
    novel = beginnings(["word " * 1_000], 8, 50)
    assert len(novel) == 8
    assert all(prompt.startswith("word") for prompt, _ in novel)


def test_beginnings_of_few_documents_are_stretches_that_do_not_overlap():
    text = " ".join(f"word{number}" for number in range(300))  # of 2,500 characters
    for found in (beginnings([text], 32, 300), beginnings([text.replace(" ", "\n")], 32, 300)):
        assert 5 < len(found) < 9
        joined = [prompt + rest for prompt, rest in found]
        words = [word for stretch in joined for word in stretch.split()[:-1]]
        assert len({*words}) == len(words)
        assert all(prompt.startswith("word") and len(rest) > 250 for prompt, rest in found)


def test_beginnings_in_a_script_without_spaces_are_different_stretches_of_it():
    text = "".join(chr(0x4E00 + number) for number in range(5_000))
    found = beginnings([text], 32, 100)
    assert len(found) == 32
    assert all((len(prompt), len(rest)) == (5, 100) for prompt, rest in found)
    letters = [letter for prompt, rest in found for letter in prompt + rest]
    assert len({*letters}) == len(letters)
    assert beginnings([text[:200]] * 2, 2, 100) == [(text[:5], text[5:105])] * 2


def test_a_prompt_of_whole_words_does_not_depend_on_how_much_is_written():
    assert beginnings(["Remember yesterday's extraordinary thunderstorms over Lisbon"], 1, 20) == [
        ("Remember yesterday's extraordinary", " thunderstorms over ")
    ]


def test_documents_of_too_few_words_for_a_prompt_are_what_follows_nothing():
    names = ["Anna", "Bo", "Carl Gustav Emil", "", "Dora of the seven long roads"]
    assert beginnings(names, 5, 300) == [
        ("", "Anna"),
        ("", "Bo"),
        ("", "Carl Gustav Emil"),
        ("Dora of the seven long", " roads"),
    ]


def test_equal_prompts_and_seeds_give_equal_texts_and_other_prompts_other_draws(trained):
    given = {**SHORT, "prompts": ["", ""], "documents": 1}
    one, two = (compare_models([trained], **given).models[0].texts for _ in range(2))
    assert one == two
    assert one[0] != one[1]


def test_a_rule_that_no_model_can_write_by_is_refused_before_any_is_scored():
    with pytest.raises(GenerationError, match=r"temperature cannot be -1.*; top_p cannot be 2"):
        Writing(temperature=-1, top_p=2)
    with pytest.raises(GenerationError, match="temperature cannot be nan"):
        Writing(temperature=math.nan)


def test_the_fingerprint_is_of_the_documents():
    assert HeldOutText(["ab", "c"], "").fingerprint != HeldOutText(["a", "bc"], "").fingerprint


def test_the_folder_one_stands_in_has_a_name_in_a_report(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    url = "http://127.0.0.1:8000/v1"
    named = {".": "here", "../gpt": "gpt", "..": tmp_path.name, url: url}
    assert short_names(list(named)) == named
    assert short_names([".", "../here"]) == {".": ".", "../here": "../here"}


def test_the_api_compares_and_writes_a_report(trained, tmp_path):
    found = api.compare(trained, out=tmp_path / "report.html", documents=3, **SHORT)
    assert found.models[0].name == str(trained)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert f"{found.models[0].score.bits_per_character:.4f}" in page
    with pytest.raises(TextwrightError, match=r"should end in .html or .md"):
        api.compare(trained, out=Path("report.pdf"), **SHORT)
