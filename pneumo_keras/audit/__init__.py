"""A look at films before anybody trains on them."""
