"""Backend, progress, signals and private parts of dependencies."""
