"""The jobs of the commands. Settings objects are passed no further down than here."""
