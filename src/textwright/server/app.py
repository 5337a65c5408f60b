"""The routes of the server, and how their errors are answered."""

# Without `from __future__ import annotations`: FastAPI reads the annotations of these functions,
# whose names are known only inside `create_app`.

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from textwright import __version__
from textwright.errors import TextwrightError
from textwright.server import answers
from textwright.server.bodies import CompletionBody, DetokenizeBody, InspectBody, TokenizeBody
from textwright.server.errors import ApiError, refused, wrong_body
from textwright.server.guard import GONE, Guard
from textwright.server.limits import Limits
from textwright.server.looking import look
from textwright.server.page import POLICY, make_index, read_files
from textwright.server.served import ServedRun
from textwright.server.service import Service, Writing

_Answer = TypeVar("_Answer")
UNREAD = 60.0  # seconds after the last of a stream was written in which it has to be read
_STREAMED = {"schema": {"type": "string", "description": "Chunks of the answer, with `stream`."}}


def create_app(
    runs: Sequence[ServedRun],
    *,
    limits: Limits,
    key: str = "",
    origins: Sequence[str] = (),
    local: bool = False,
) -> Any:
    """The FastAPI app of a server.

    key: what clients have to send; empty: nothing · origins: pages that a browser lets read the
    answers · local: refuse requests to any other name than this machine's own. Needs the extra
    `serve`.
    """
    from fastapi import FastAPI, Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.middleware.cors import CORSMiddleware
    from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
    from starlette.exceptions import HTTPException

    service = Service(runs, limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="textwright",
        version=__version__,
        lifespan=lifespan,
        responses=answers.refusals(),
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    app.add_middleware(Guard, key=key, local=local, limits=limits, metrics=service.metrics)
    if origins:  # last, so that it is the first to see a request: the browser's question has no key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],  # OpenAI's client for browsers sends a dozen of its own
            expose_headers=["Retry-After"],
        )

    class Stream(StreamingResponse):
        """A text as it is written. It is closed however it ends, also where the client goes before
        the first of it, or does not read it."""

        def __init__(self, writing: Writing) -> None:
            headers = {"X-Accel-Buffering": "no"}  # a proxy is to pass each event on
            super().__init__(writing.stream(), headers=headers, media_type="text/event-stream")
            self._writing = writing

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                async with asyncio.timeout(limits.seconds + UNREAD):
                    await super().__call__(scope, receive, send)
            except TimeoutError:
                pass
            finally:
                self._writing.close()

    index, files = make_index(), read_files()

    @app.get("/", response_model=None, include_in_schema=False)
    async def page() -> Response:
        """The page, for people."""
        return HTMLResponse(index, headers={"Content-Security-Policy": POLICY})

    @app.get("/web/{name}", response_model=None, include_in_schema=False)
    async def page_file(name: str) -> Response:
        """A file that the page loads."""
        if name not in files:
            raise HTTPException(404)
        kind, text = files[name]
        return Response(text, media_type=kind)

    @app.get("/v1/models", **answers.described(answers.Models))
    async def list_models() -> dict[str, Any]:
        """The runs that are served."""
        return {"object": "list", "data": [served.to_json() for served in service.runs.values()]}

    @app.get("/v1/models/{name}", **answers.described(answers.Model))
    async def show_model(name: str) -> dict[str, Any]:
        """One of the runs."""
        return service.find(name).to_json()

    @app.post(
        "/v1/completions",
        **answers.described(answers.CompletionAnswer, **{"text/event-stream": _STREAMED}),
    )
    async def complete(body: CompletionBody, request: Request) -> Response:
        """Text that goes on from prompts, or the log-probabilities of the prompts."""
        writing = await unless_gone(request, service.begin(body))
        if writing is None:
            return Response(status_code=GONE)
        if body.stream:
            return Stream(writing)
        try:
            answer = await unless_gone(request, writing.whole())
        finally:
            writing.close()
        return Response(status_code=GONE) if answer is None else JSONResponse(answer)

    @app.post("/v1/chat/completions", status_code=400, response_model=answers.Refusal)
    async def refuse_chat() -> None:
        """Refused: the runs complete texts."""
        raise ApiError(
            400,
            "These models complete texts and know no roles or turns: use /v1/completions.",
            code="no_chat",
        )

    @app.post("/tokenize", **answers.described(answers.Tokens))
    async def tokenize(body: TokenizeBody) -> Response:
        """The ids of a text, in vLLM's form, and its words that the vocabulary lacks."""
        served = service.find_for_tokens(body.model)

        def answer(body: TokenizeBody) -> Response:  # made where the text is read: it may be long
            return JSONResponse(served.tokenize(body))

        return await service.read(answer, body)

    @app.post("/detokenize", **answers.described(answers.Text))
    async def detokenize(body: DetokenizeBody) -> dict[str, Any]:
        """The text of ids, in vLLM's form."""
        served = service.find_for_tokens(body.model)
        served.check_ids(body.tokens)
        return {"prompt": await asyncio.to_thread(served.tokenizer.decode, body.tokens)}

    @app.get("/tokenizer_info", **answers.described(answers.TokenizerInfo))
    async def tokenizer_info(model: str | None = None) -> dict[str, Any]:
        """What a client needs to know of a run's tokenizer."""
        served = service.find_for_tokens(model)
        stop = served.spellings[served.tokenizer.stop_id]
        return {
            "tokenizer_class": f"textwright/{served.tokenizer.kind}",
            "bos_token": stop,
            "eos_token": stop,
            "vocab_size": served.tokenizer.vocab_size,
            "model_max_length": served.context_length,
            "chat_template": None,
        }

    @app.get("/api/runs", **answers.described(answers.Runs))
    async def describe_runs() -> dict[str, Any]:
        """The runs with all that a page shows of them."""
        return {"runs": [served.described for served in service.runs.values()]}

    @app.post("/api/inspect", **answers.described(answers.Inspected))
    async def inspect(body: InspectBody, request: Request) -> Response:
        """What may come after a text, before the sampling options change it and after."""
        answer = await unless_gone(request, look(service, body))
        return Response(status_code=GONE) if answer is None else JSONResponse(answer)

    @app.get("/health", **answers.described(answers.Health))
    async def health() -> dict[str, str]:
        """Answers while the server runs."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counters, for Prometheus."""
        return PlainTextResponse(service.metrics.render(), media_type="text/plain; version=0.0.4")

    def answer_error(error: ApiError) -> Response:
        return JSONResponse(error.to_json(), error.status, error.headers)

    @app.exception_handler(TextwrightError)
    @app.exception_handler(MemoryError)
    async def refuse(request: Request, error: Exception) -> Response:
        return answer_error(refused(error))

    @app.exception_handler(RequestValidationError)
    async def refuse_body(request: Request, error: RequestValidationError) -> Response:
        return answer_error(wrong_body(error.errors()))

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> Response:
        sentences = {
            404: f"There is nothing at {request.url.path[:100]}; completions are at "
            "/v1/completions.",
            405: f"{request.url.path[:100]} does not take {request.method[:20]}.",
        }
        return answer_error(
            ApiError(
                error.status_code,
                sentences.get(error.status_code, f"{error.detail}."),
                headers=error.headers,
            )
        )

    return app


async def unless_gone(request: Any, answer: Awaitable[_Answer]) -> _Answer | None:
    """Wait for an answer, which is given up when the client goes: None."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(answer), asyncio.ensure_future(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
