"""Hugging Face: requests to the hub, whose failures become one sentence, and a silent library."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, EDQUOT, ENOSPC, EROFS

from textwright.errors import TextwrightError


@contextmanager
def asking_hub(
    gated: TextwrightError, missing: TextwrightError, unreachable: TextwrightError
) -> Iterator[None]:
    """Raise one of these errors in place of the client's own.

    gated: the owner asks for an agreement · missing: there is no such repository or revision ·
    unreachable: neither the hub nor a copy on this machine can be read.
    """
    # Imported here, so that only requests to the hub pay for its client.
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except TextwrightError:
        raise
    except GatedRepoError as error:
        raise gated from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise missing from error
    except Exception as error:  # the client's own errors, and those of its HTTP library
        if isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT, EACCES, EROFS):
            raise type(unreachable)(
                f"Files from the hub cannot be saved ({error.strerror}): make room, or name "
                "another folder for them in HF_HOME."
            ) from error
        raise unreachable from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars and remarks."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
