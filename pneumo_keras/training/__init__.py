"""The fit of heads: batches, losses, callbacks, checkpoints, cross-validation."""
