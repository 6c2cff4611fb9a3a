"""The machine: what is remembered on it, children of this process, its stderr, its CPUs."""
