"""The version. Below 1.0 as long as Hugging Face's `accelerate` >= 1.1 could be mistaken for this package."""

__version__ = "0.1.0"
