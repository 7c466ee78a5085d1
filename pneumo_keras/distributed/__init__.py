"""Processes and devices that train together: the group, its launcher, the rows of each device."""
