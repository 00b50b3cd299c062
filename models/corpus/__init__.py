"""Generators of the training text, one module per kind."""
