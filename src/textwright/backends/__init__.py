"""Models without torch: weights to logits on the processor, for writing.

A family names its own here; the others are driven by `models.TorchBackend`.
"""
