"""Reports, plots, tables and messages about runs, images and engines."""
