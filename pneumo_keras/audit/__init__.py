"""What to know of images before training on them: counts, copies, patients, exposure."""
