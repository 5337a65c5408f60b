"""The run folder: what training leaves behind, and what everything after it starts from."""

from textwright.run.folder import BASE, FILES, SAMPLE_MARK, Arrays, Checkpoint, Run

__all__ = ["BASE", "FILES", "SAMPLE_MARK", "Arrays", "Checkpoint", "Run"]
