"""The Open Inference Protocol: its messages, and what they say of a model. Its server and its client share this."""
