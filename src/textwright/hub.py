"""Asking the hub: whatever goes wrong there becomes one of three sentences."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, EDQUOT, ENOSPC, EROFS

from textwright.errors import TextwrightError


@contextmanager
def asking_hub(
    gated: TextwrightError, missing: TextwrightError, unreachable: TextwrightError
) -> Iterator[None]:
    """Raise one of these for the client's own errors: the owner wants an agreement; there is no
    such repository or revision; neither the hub nor a copy on this machine can be had."""
    # Imported here: who asks nothing of the hub does not pay for its client.
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
    except Exception as error:  # the client's own, and those of whatever it speaks HTTP with
        if isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT, EACCES, EROFS):
            raise type(unreachable)(
                f"What the hub sends cannot be kept ({error.strerror}): make room, or name another "
                "folder for it in HF_HOME."
            ) from error
        raise unreachable from error
