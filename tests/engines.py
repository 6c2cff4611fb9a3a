"""Which TFLite engines this environment has; `make test` also runs in one that has tflite-runtime."""

from __future__ import annotations

import importlib.util

PACKAGES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
INSTALLED = [engine for engine, package in PACKAGES.items() if importlib.util.find_spec(package)]
