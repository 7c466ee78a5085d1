"""The frozen backbone, what runs it, and the classifier around it."""
