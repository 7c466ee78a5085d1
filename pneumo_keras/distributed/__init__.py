"""Processes and devices that train together: the group, its launcher, the share of each device."""
