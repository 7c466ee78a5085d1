"""A page to try a run on films of one's own."""
