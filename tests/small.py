"""A training that takes a second."""

COUNTS = (60, 30, 40)
SMALL = [
    f"data.phantom_images={list(COUNTS)}",
    "model.feature_layers=['mixed10']",
    "training.epochs=2",
    "model.hidden_units=4",
]
LEARNING = "training.learning_rate=0.1"
"""Lets two epochs suffice for scores that rise with pneumonia, which a calibration wants."""
