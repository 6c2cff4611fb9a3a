"""Delegates out of a library of their own, which take a model's operators from the TFLite interpreter."""
