"""How a call reaches the server, and its results come back."""
