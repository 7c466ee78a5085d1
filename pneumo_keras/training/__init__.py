"""From images to a fitted head: augmentation, the feature cache, the fit."""
