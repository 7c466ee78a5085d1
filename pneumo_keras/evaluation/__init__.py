"""How good the scores are, and how sure we are of it. Never imports keras, training, model or data."""
