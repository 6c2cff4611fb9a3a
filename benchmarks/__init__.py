"""What edge-accelerate costs over the raw runtimes, measured side by side.

See README.md; run with ``python -m benchmarks``."""
