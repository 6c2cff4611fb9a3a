"""Models made of Models."""
