"""From images to the features of the frozen backbone."""
