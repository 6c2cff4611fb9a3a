"""One runtime each. A backend imports the core; nothing in the core imports a backend."""
