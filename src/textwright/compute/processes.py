"""One training in several processes (`torchrun`), or in one; callers need not distinguish them.

Losses are divided by the global count and their gradients are added up over all processes, so that
many processes take exactly the step that one would.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from textwright.errors import ConfigError, TrainingError

PATIENCE = timedelta(hours=6)  # the others wait while the first prepares a large corpus

T = TypeVar("T")


@contextmanager
def _in_touch() -> Iterator[None]:
    """Raise TrainingError if another process has ended or cannot be reached."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0].strip().rstrip(".")
        raise TrainingError(
            f"The processes of this training lost touch ({reason}): see what the others print; "
            "what was saved before is intact, and --resume continues from there."
        ) from error


def start(device: torch.device) -> torch.device:
    """Join the group that torchrun describes in the environment, if any → this process' device."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    if "LOCAL_RANK" not in os.environ:
        raise ConfigError(
            "WORLD_SIZE asks for several processes, but LOCAL_RANK is not set: start them with "
            "torchrun, or unset WORLD_SIZE."
        )
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if device.index >= torch.cuda.device_count():
            raise ConfigError(
                f"There is no CUDA device for process {device.index}: start at most "
                f"{torch.cuda.device_count()} on this machine."
            )
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        # torch's compiler imports this module, and its functions keep the group that exists then
        # as a default: imported later, it would keep ours, and its threads, until Python ends.
        import_module("torch.distributed.nn.functional")
        backend = "nccl" if device.type == "cuda" else "gloo"
        with _in_touch():  # another may end while they meet
            dist.init_process_group(backend, timeout=PATIENCE)
        if backend == "gloo":  # leaving NCCL's would wait for the others, which may have died
            atexit.register(stop)
    return device


def stop() -> None:
    """Leave the group, and end its threads: one that still runs when Python ends aborts it."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def rank_and_world() -> tuple[int, int]:
    """This process' number and how many there are; (0, 1) when alone."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def leads() -> bool:
    """True in the first process, which is the one that writes."""
    return rank_and_world()[0] == 0


def total(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if rank_and_world()[1] > 1:
        value = value.to(_device(), copy=True)
        with _in_touch():
            dist.all_reduce(value)
    return value


def agree(value: float) -> float:
    """The first process' value, so that all take the same decision."""
    if rank_and_world()[1] > 1:
        shared = torch.tensor(value, dtype=torch.float64, device=_device())
        with _in_touch():
            dist.broadcast(shared, src=0)
        value = float(shared)
    return value


def any_true(value: bool) -> bool:
    """True if the value is true in any process."""
    return bool(total(torch.tensor(float(value))))


def gather(value: T) -> list[T]:
    """The values of all processes, in order."""
    world = rank_and_world()[1]
    values = [value] * world
    if world > 1:
        with _in_touch():
            dist.all_gather_object(values, value)
    return values


def sum_gradients(model: nn.Module) -> None:
    """Add up the gradients of all processes, in one message."""
    if rank_and_world()[1] == 1:
        return
    gradients = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:  # this process had no rows
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    with _in_touch():
        dist.all_reduce(flat)
    sums = flat.split([gradient.numel() for gradient in gradients])
    for gradient, summed in zip(gradients, sums, strict=True):
        gradient.copy_(summed.view_as(gradient))


def wait() -> None:
    """Wait until every process has come here."""
    if rank_and_world()[1] > 1:
        with _in_touch():
            dist.barrier()


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
