"""A server on a port: clients that speak OpenAI's completions, and those that go away."""

import asyncio
import shutil
import threading
import time

import httpx
import openai
import pytest
from serving import make_app, running

from textwright.api import load
from textwright.comparison.completions import CompletionServer
from textwright.comparison.run_subject import RunSubject
from textwright.inspection.next_tokens import predict
from textwright.run import Run
from textwright.server import looking


@pytest.fixture(scope="module")
def app(trained):
    return make_app(trained, key="sesame", queue=40)


@pytest.fixture(scope="module")
def url(app):
    with running(app) as address:
        yield address


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="sesame", max_retries=0) as client:
        yield client


def wait_until(condition, seconds=5.0):
    """Poll for what other threads do."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        threading.Event().wait(0.005)


def test_openais_client_lists_models_and_completes(client, trained):
    assert [model.id for model in client.models.list()] == [trained.name]
    wanted = load(trained).generate(["The", "A"], num=2, seed=3, max_new_tokens=8, temperature=0.5)
    answer = client.completions.create(
        model=trained.name, prompt=["The", "A"], n=2, seed=3, max_tokens=8, temperature=0.5
    )
    assert [choice.text for choice in answer.choices] == [sample.text for sample in wanted]
    assert answer.usage and answer.usage.completion_tokens == sum(len(s.ids) for s in wanted)


def test_openais_client_streams_with_log_probabilities(client, trained):
    asked = {"model": trained.name, "prompt": "The", "seed": 3, "max_tokens": 8, "logprobs": 2}
    [whole] = client.completions.create(**asked).choices
    chunks = list(client.completions.create(**asked, stream=True, extra_body={"top_k": 0}))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.text
    assert whole.logprobs and whole.logprobs.token_logprobs
    found = [value for chunk in chunks for value in chunk.choices[0].logprobs.token_logprobs]
    assert found == whole.logprobs.token_logprobs
    assert chunks[-1].choices[0].finish_reason == whole.finish_reason


def test_openais_client_raises_its_own_errors(client, url, trained):
    for error, changed in [
        (openai.NotFoundError, {"model": "gpt-4"}),
        (openai.BadRequestError, {"suffix": "x"}),
        (openai.UnprocessableEntityError, {"n": 0}),
        (openai.RateLimitError, {"n": 41}),
    ]:
        with pytest.raises(error) as raised:
            client.completions.create(**{"model": trained.name, "prompt": "The", **changed})
        assert raised.value.body["message"].endswith(".")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{url}/v1", api_key="other", max_retries=0).models.list()
    with pytest.raises(openai.BadRequestError, match="/v1/completions"):
        client.chat.completions.create(model=trained.name, messages=[])


def test_openais_client_tries_again_when_the_queue_is_full(app, url, trained):
    service = app.state.service
    service.texts += 40  # as if others were written
    before = service.texts
    freed = threading.Timer(0.3, lambda: setattr(service, "texts", service.texts - before))
    freed.start()
    with openai.OpenAI(base_url=f"{url}/v1", api_key="sesame", max_retries=3) as patient:
        assert patient.completions.create(model=trained.name, prompt="The").choices
    freed.join()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_stops_costing(app, url, stream):
    service = app.state.service
    [engine] = service.worker._engines.values()
    asked = {"prompt": "The", "n": 20, "max_tokens": 5000, "stream": stream, "seed": 1}
    asked["logit_bias"] = {"0": -100}  # the stop

    async def go_away():
        headers = {"authorization": "Bearer sesame"}
        async with httpx.AsyncClient(base_url=url, headers=headers) as client:
            sending = asyncio.create_task(read(client))
            while not engine.busy:
                await asyncio.sleep(0.005)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def read(client):
        async with client.stream("POST", "/v1/completions", json=asked) as answer:
            async for _ in answer.aiter_bytes():
                pass

    asyncio.run(go_away())
    wait_until(lambda: not engine.busy and service.texts == 0)


def test_a_look_of_a_client_that_has_gone_is_not_taken(app, url, monkeypatch):
    service, looked, go_on = app.state.service, [], threading.Event()
    worker = service.worker

    def waiting():
        return len(worker._calls) + worker._orders.qsize()

    async def go_away():
        headers = {"authorization": "Bearer sesame"}
        async with httpx.AsyncClient(base_url=url, headers=headers) as client, asyncio.timeout(20):
            looks = [client.post("/api/inspect", json={"prompt": "The"}) for _ in range(5)]
            sending = asyncio.gather(*looks, return_exceptions=True)
            while not looked or waiting() < 4:
                await asyncio.sleep(0.005)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def look(*given):
        looked.append(given)
        go_on.wait(20)
        return predict(*given)

    monkeypatch.setattr(looking, "predict", look)
    try:
        asyncio.run(go_away())
        wait_until(lambda: service.texts == 0)
    finally:
        go_on.set()
    wait_until(lambda: not waiting())
    assert len(looked) == 1


def test_half_a_body_and_a_body_of_the_wrong_length_leave_the_server_serving(url, client):
    host, port = url.removeprefix("http://").split(":")

    async def send(data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        await writer.drain()
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return answer

    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame\r\n"
    half = head + b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    huge = head + b"Content-Length: 99999999999999999999\r\n\r\n"
    for data in (half, huge, b"\x00\xff\r\n\r\n", b"GET /x HTTP/9.9\r\n\r\n", b""):
        answer = asyncio.run(send(data))
        assert not answer or answer.split()[1][:1] == b"4"
    assert client.models.list().data


def test_a_served_run_scores_the_bits_of_the_run(mixed, trained, tmp_path):
    run, beside = Run.load(mixed), shutil.copytree(trained, tmp_path / "beside")
    documents = [*run.held_out("test")][:5]
    with running(make_app(run.path, beside)) as address:
        subject = CompletionServer(address)
        served = subject.measure(documents, lambda done, total: None)
    own = RunSubject(run, "cpu").measure(documents, lambda done, total: None)
    assert served.bits == pytest.approx(own.bits, abs=1e-3)
    assert len(subject.remarks()) == 1  # none of what is left out, or charged plainly


def test_long_prompts_hold_no_short_one_up_and_are_not_read_for_clients_that_have_gone(
    app, url, monkeypatch
):
    service = app.state.service
    [served] = service.runs.values()
    ask, begun, go_on = served.ask, [], threading.Event()

    def slowly(body):
        if len(body.prompt) > 3:
            begun.append(body)
            go_on.wait(20)
        return ask(body)

    def gone() -> float:
        labels = {"route": "/v1/completions", "status": "499"}
        return service.metrics.registry.get_sample_value("textwright_requests_total", labels) or 0

    async def go_away():
        async with httpx.AsyncClient(
            base_url=url, headers={"authorization": "Bearer sesame"}
        ) as client:
            long = {"prompt": "soup " * 50_000}
            sent = [client.post("/v1/completions", json=long) for _ in range(8)]
            sending = asyncio.gather(*sent, return_exceptions=True)
            while not begun:
                await asyncio.sleep(0.005)
            short = await client.post("/v1/completions", json={"prompt": "The"})
            assert short.status_code == 200
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    monkeypatch.setattr(served, "ask", slowly)
    before = gone()
    try:
        asyncio.run(go_away())
        wait_until(lambda: gone() == before + 8)
    finally:
        go_on.set()
    service.inside.submit(int).result()  # after all that waited
    assert len(begun) == 1 and service.texts == 0
