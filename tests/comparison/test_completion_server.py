"""A server is scored by what it says of the text, and pays for what it does not say."""

import json
import math
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from short_comparison import SHORT

from textwright.comparison.audit import audit
from textwright.comparison.comparison import compare_models
from textwright.comparison.completions import CompletionServer, elias_delta_bits
from textwright.comparison.run_subject import RunSubject
from textwright.comparison.subjects import Writing
from textwright.corpus import CorpusOptions
from textwright.errors import (
    EvaluationError,
)
from textwright.evaluation.predictors import open_predictor
from textwright.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")


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


def logprobs(tokens, values):
    return {"choices": [{"logprobs": {"tokens": tokens, "token_logprobs": values}}]}


@pytest.mark.parametrize(
    ("path", "odd"),
    [
        ("/v1/models", {"data": ["m"]}),
        ("/v1/models", {"data": {"id": "m"}}),
        ("/tokenize", {"ids": [1, 2]}),
        ("/tokenize", {"tokens": []}),
        ("/tokenize", {"tokens": ["one"]}),
        ("/v1/completions", {"choices": []}),
        ("/v1/completions", {"choices": ["text"]}),
        ("/v1/completions", {"choices": [{"logprobs": "none"}]}),
        ("/v1/completions", logprobs(["bytes:\\xzz"], [-1.0])),
        ("/v1/completions", logprobs(["a"], ["likely"])),
        ("/v1/completions", logprobs(1, 1)),
    ],
    ids=str,
)
def test_an_answer_of_another_form_is_a_sentence(monkeypatch, path, odd):
    answers = {
        "/v1/models": {"data": [{"id": "m"}]},
        "/tokenizer_info?model=m": {"bos_token": "<s>", "eos_token": "</s>"},
        "/tokenize": {"tokens": [1]},
        path: odd,
    }
    monkeypatch.setattr(CompletionServer, "_ask", lambda self, path, body=None: answers[path])
    with pytest.raises(EvaluationError, match=f"answers {path} in another form"):
        CompletionServer("http://host").measure(["a"], lambda done, total: None)


def test_a_server_may_count_its_tokens_in_words_but_not_in_a_list(monkeypatch):
    answer = {"choices": [{"text": " and salt"}], "usage": {"completion_tokens": "three"}}
    answers = {"/v1/models": {"data": []}, "/v1/completions": answer}
    monkeypatch.setattr(CompletionServer, "_ask", lambda self, path, body=None: answers[path])
    subject = CompletionServer("http://host")
    written = subject.write(["Take"], Writing(), 5)
    assert (written.texts, written.tokens) == ([" and salt"], None)
    answer["usage"] = ["three"]
    with pytest.raises(EvaluationError, match="answers /v1/completions in another form"):
        subject.write(["Take"], Writing(), 5)


def test_a_server_has_no_proof(server, fresh):
    url, _ = server
    found = audit(url, [fresh], options=CorpusOptions(unit="line"), documents=2)
    assert found.proof is None
    assert found.to_json()["proof"] is None
