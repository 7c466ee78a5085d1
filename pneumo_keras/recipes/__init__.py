"""The jobs of the commands: they take settings and pass on their values."""
