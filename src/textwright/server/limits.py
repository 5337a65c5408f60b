"""What a server takes on: stated, so that a request beyond it is refused with a sentence."""

from pydantic import Field

from textwright.options import Options


class Limits(Options):
    """Everything that bounds what requests cost."""

    batch_size: int = Field(128, ge=1, description="Texts of a run that are written together.")
    queue: int = Field(
        512, ge=1, description="Texts that run or wait, of all requests; beyond it, 429."
    )
    texts: int = Field(128, ge=1, description="Texts and beams of one request.")
    tokens: int = Field(
        200_000, ge=1, description="Tokens of one request: those of its prompts, and new ones."
    )
    bytes: int = Field(4_000_000, ge=1, description="Bytes of a request's body.")
    seconds: float = Field(
        600.0, gt=0, description="Seconds from a request to the end of its answer."
    )
