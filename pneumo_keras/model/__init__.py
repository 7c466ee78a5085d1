"""The backbone, the head, the classifier of both, and its explanations."""
