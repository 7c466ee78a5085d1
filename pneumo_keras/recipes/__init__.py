"""The whole jobs, each read like the abstract of a paper. The only place that unpacks settings."""
