"""Where films come from, and what they are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataCard:
    """What the films are, for people; report, environment and result names speak from it.

    Attributes:
        title: `PneumoniaMNIST, 28 px`; for a user's own file its name.
        description: One or two sentences.
        limits: Sentences on what a classifier of these films cannot be expected to do.
        notice: What a reader must know before comparing figures with others; "" if nothing.
        licence: "" where unknown.
        citation: "" where unknown.
        synthetic: Whether no patient stands behind the films.
        medmnist_name: As MedMNIST's result files name the data set; for the official file alone.
        files: SHA-256 of what was opened, by file name; none for films that a program drew.
    """

    title: str
    description: str
    limits: tuple[str, ...]
    notice: str
    licence: str
    citation: str
    synthetic: bool
    medmnist_name: str | None
    files: dict[str, str]
