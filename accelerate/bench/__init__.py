"""Compares the devices of a machine on one model: what ``edge-accelerate bench`` and ``pytest --benchmark`` run.

A report is what `runner.run` returns, a dictionary that JSON can hold: ``settings``, ``machine``, and in ``results``
one row for each model, backend and device, with ``status`` "ok", "INVALID", "failed" or "missing" and a ``reason`` for
every one but the first. Needs the extra ``bench``. `import accelerate` imports nothing of it.
"""
