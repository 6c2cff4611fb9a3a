"""Starts the module: ``python -m accelerate.serve.viam SOCKET``, as viam-server does."""

from .module import main

main()
