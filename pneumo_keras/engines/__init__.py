"""What runs the frozen backbone."""
