"""What runs inside Triton's Python backend, in the server's own Python: shipped as text, never imported here."""
