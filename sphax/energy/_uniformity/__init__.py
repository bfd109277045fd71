"""Other measures of how uniformly directions are spread over the sphere."""
