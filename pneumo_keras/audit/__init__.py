"""Facts about images that matter before training on them: counts, copies, patients, exposure."""
