"""How a model file gets onto a server, is kept there, and is taken away."""
