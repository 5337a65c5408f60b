"""The run folder: what training leaves behind, and what everything after it starts from."""

from textwright.run.arrays import Arrays
from textwright.run.checkpoints import Checkpoint
from textwright.run.folder import BASE, COUNTS, FILES, WEIGHTS, Run
from textwright.run.records import SAMPLE_MARK

__all__ = ["BASE", "COUNTS", "FILES", "SAMPLE_MARK", "WEIGHTS", "Arrays", "Checkpoint", "Run"]
