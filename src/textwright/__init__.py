"""textwright: train, understand and trust small autoregressive text models."""
