"""What is refused, in the shape of OpenAI's errors."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from textwright.errors import TextwrightError

log = logging.getLogger(__name__)

# By status: the type that OpenAI's clients expect in the answer.
TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
}


class ApiError(TextwrightError):
    """A request that cannot be served. status: of HTTP · param: the field of the body that is wrong
    · code: a word for programs · retry_after: seconds after which to try again · headers: of the
    answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)

    def to_json(self) -> dict[str, Any]:
        """The body of the answer."""
        # A wrong value may hold half a character, which no answer can.
        message = str(self).encode("utf-8", "replace").decode()
        param = self.param and self.param.encode("utf-8", "replace").decode()
        kind = TYPES.get(self.status, "invalid_request_error")
        error = {"message": message, "type": kind, "param": param, "code": self.code}
        return {"error": error}


def refused(error: Exception) -> ApiError:
    """What is answered where something was raised; it is logged if nobody could foresee it."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, MemoryError):
        return ApiError(429, "Memory ran out: ask for fewer or shorter texts.", retry_after=5)
    if isinstance(error, TextwrightError):
        return ApiError(422, str(error))
    log.error("A text could not be written.", exc_info=error)
    return ApiError(500, "The text could not be written; the server's log has the reason.")


def wrong_body(problems: Sequence[Any]) -> ApiError:
    """One error for all that pydantic found wrong with a body."""
    first = problems[0]
    if first["type"] == "json_invalid":
        return ApiError(400, f"The body is no JSON: {first['ctx']['error']}.")
    if first["loc"] == ("body",) and first["type"] != "value_error":
        return ApiError(
            400,
            "The body is no JSON object: send one, with the header Content-Type: application/json.",
        )
    said: dict[str, str] = {}
    for problem in problems:
        name = str(problem["loc"][1]) if len(problem["loc"]) > 1 else ""
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "there is no such field"
        said.setdefault(name, f"{name}: {message}"[:300] if name else message[:300])
    param = next(iter(said)) or None
    return ApiError(422, "; ".join([*said.values()][:8]) + ".", param=param)
