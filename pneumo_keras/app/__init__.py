"""A page to try a run on images of one's own."""
