"""One call: names, conversion of its inputs, its buffers, its deadline, and how long it took."""
