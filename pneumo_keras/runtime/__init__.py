"""Backend, progress, signals and private APIs of dependencies."""
