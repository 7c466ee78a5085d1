"""A look at images before anybody trains on them."""
