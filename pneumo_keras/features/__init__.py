"""From films to the features of the frozen backbone."""
