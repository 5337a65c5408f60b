"""Writes texts with a model: plain prompts, or the fields of a form.

The decode loop is in `engine.py`; which rows run together in `rows.py`, drawing in `sampling.py`,
beams in `beams.py`, stopping and turning ids into text in `text.py`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

from textwright.errors import GenerationError
from textwright.tokenizer import Tokenizer
from textwright.tokenizer.treatment import UNKNOWN
from textwright.writing.backend import Backend, lacking
from textwright.writing.engine import Engine
from textwright.writing.form import Form
from textwright.writing.prompt import Prompt, read_prompts
from textwright.writing.request import Request
from textwright.writing.sampling_options import SamplingOptions
from textwright.writing.sequences import KnownSequences
from textwright.writing.stream import Sample, TextStream


@dataclass(frozen=True)
class Generator:
    """A backend and the tokenizer that its model was trained with.

    At most `batch_size` rows run together, however many texts are requested; but all beams of one
    prompt run together. Raises GenerationError where it is below 1. known_sequences: gives those of
    so many tokens; without it there is no rule against copies.
    """

    backend: Backend
    tokenizer: Tokenizer
    _: KW_ONLY
    batch_size: int = 32
    known_sequences: Callable[[int], KnownSequences] | None = None  # of the training text

    def __post_init__(self) -> None:
        self.engine()  # refuse a bad batch size now

    def stream(
        self,
        prompts: str | Sequence[str],
        options: SamplingOptions | None = None,
        *,
        num: int = 1,
        seed: int | Sequence[int] = 0,
        logprobs: bool = False,
    ) -> TextStream:
        """`num` texts for each prompt, token by token, as they are written; of beams, the best.

        A text's draws depend on the seed and on the number of the text among those of its prompt (a
        prompt that is given again counts on), and on nothing else that is written with it.
        seed: one for all prompts, or one for each, so that their draws are not alike.
        logprobs: also give each token's log-probability, before the options change it.
        Raises GenerationError where an option does not suit the tokenizer.
        """
        texts = [prompts] if isinstance(prompts, str) else prompts
        return self._start(
            read_prompts(texts, self.tokenizer), options or SamplingOptions(), num, seed, logprobs
        )

    def fill(
        self,
        form: Form,
        given: Mapping[str, str],
        options: SamplingOptions | None = None,
        *,
        num: int = 1,
        seed: int = 0,
        logprobs: bool = False,
    ) -> TextStream:
        """`num` documents with the given fields, as `stream` gives texts.

        Each reads as the template does, so `form.parse` gives back the given fields. Raises
        GenerationError where a field cannot be given, or beams are requested.
        """
        options = options or SamplingOptions()
        if options.beams > 1:
            raise GenerationError("Fields cannot be used with beams: leave out one of the two.")
        return self._start([form.prompt(given)], options, num, seed, logprobs)

    def generate(
        self,
        prompts: str | Sequence[str],
        options: SamplingOptions | None = None,
        *,
        num: int = 1,
        seed: int = 0,
        logprobs: bool = False,
    ) -> list[Sample]:
        """`num` finished texts for each prompt, in the order of the prompts. See `stream`."""
        stream = self.stream(prompts, options, num=num, seed=seed, logprobs=logprobs)
        return list(stream.samples())

    def engine(self) -> Engine:
        """An engine that writes requests as they come."""
        return Engine(self.backend, self.tokenizer, batch_size=self.batch_size)

    def requests(
        self,
        prompts: Sequence[Prompt],
        options: SamplingOptions,
        *,
        num: int = 1,
        seed: int | Sequence[int] = 0,
        logprobs: int | None = None,
        echo: bool = False,
    ) -> list[Request]:
        """What an engine takes, one for each prompt; see `Request`, and `stream` on draws.

        Tokens in the options may be given as text. Those that the training text never has, such as
        bytes of other scripts, are forbidden, too. Raises GenerationError where an option does not
        suit the tokenizer.
        """
        seeds = seed if isinstance(seed, Sequence) else [int(seed)] * len(prompts)
        known = self._known(options.no_copy)
        options = settled(options, self.backend, self.tokenizer)
        # Texts of each prompt: ids that are no whole characters can read alike.
        begun: Counter[tuple[str, tuple[int, ...]]] = Counter()
        requests = []
        for prompt, own in zip(prompts, seeds, strict=True):
            key = (prompt.text, tuple(prompt.ids))
            first = begun[key]
            begun[key] += num
            requests.append(
                Request(
                    prompt,
                    options,
                    num=num,
                    seed=own,
                    first=first,
                    logprobs=logprobs,
                    echo=echo,
                    known=known,
                )
            )
        return requests

    def _start(
        self,
        prompts: Sequence[Prompt],
        options: SamplingOptions,
        num: int,
        seed: int | Sequence[int],
        logprobs: bool,
    ) -> TextStream:
        scores = 0 if logprobs else None
        requests = self.requests(prompts, options, num=num, seed=seed, logprobs=scores)
        return TextStream(self.engine(), requests, num)

    def _known(self, length: int) -> KnownSequences | None:
        if not length:
            return None
        if self.known_sequences is None:
            raise GenerationError(
                "no_copy needs the training text, which is not at hand here: leave it out."
            )
        return self.known_sequences(length)


def settled(options: SamplingOptions, backend: Backend, tokenizer: Tokenizer) -> SamplingOptions:
    """The options with their tokens as ids, and all tokens forbidden that the backend's training
    text never has. Raises GenerationError as `with_ids` does."""
    options = with_ids(options, tokenizer)
    if not (never := lacking(backend)):
        return options
    # One list for all requests where it can be: options that share it are quickly found equal.
    forbid = [*options.forbid, *never] if options.forbid else never
    return options.model_copy(update={"forbid": forbid})


def with_ids(options: SamplingOptions, tokenizer: Tokenizer) -> SamplingOptions:
    """The options with every token given as an id.

    Raises GenerationError for a string that is not exactly one token, and for an unknown id.
    """

    def find(token: int | str) -> int | None:  # None: [UNK], where the tokenizer has none
        if isinstance(token, int):
            if 0 <= token < tokenizer.vocab_size:
                return token
            raise GenerationError(
                f"There is no token {token}: ids go from 0 to {tokenizer.vocab_size - 1}."
            )
        ids = tokenizer.encode(token)
        if len(ids) == 1 and ids[0] != tokenizer.unknown_id:
            return int(ids[0])
        # "[UNK]", or a token as tokenizer.json spells it: é alone would be one of a letter's bytes.
        found = tokenizer.id_of(token) if len(token) > 1 else None
        if found is None and token == UNKNOWN:
            return None
        if found is None:
            raise GenerationError(
                f"{token!r} is not one token of this model: "
                f"it is {tokenizer.tokens(ids)}; give one of its tokens."
            )
        return found

    if not options.logit_bias and not options.forbid:
        return options
    return options.model_copy(
        update={
            "logit_bias": {
                found: value
                for token, value in options.logit_bias.items()
                if (found := find(token)) is not None
            },
            "forbid": [found for token in options.forbid if (found := find(token)) is not None],
        }
    )
