"""Models without torch: weights to logits on the processor, for writing.

A family may name one of them; any other is driven by `models.TorchBackend`.
"""
