"""``pytest --benchmark``: the devices of this machine on a model, as pytest-benchmark tests.

A module of its own beside the package: pytest imports it in every project of the environment, and importing the package
there would cost each of them NumPy's import.
"""

from __future__ import annotations

import importlib.util

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("edge-accelerate", "edge-accelerate: compare the devices of this machine on a model")
    group.addoption(
        "--benchmark", action="store_true", help="Compare the devices here; nothing else runs unless paths are given."
    )
    group.addoption(
        "--benchmark-model",
        action="append",
        default=[],
        metavar="PATH",
        help="With --benchmark: the model, by default one that comes with edge-accelerate. Repeatable, for its twins "
        "and for others. Write --benchmark-model=PATH: pytest takes a PATH after a blank for tests, and looks for its "
        "rootdir there.",
    )
    group.addoption(
        "--benchmark-on",
        action="append",
        default=[],
        metavar="DEVICE",
        help="With --benchmark: only this device, backend, or backend:device. Repeatable; write --benchmark-on=DEVICE.",
    )
    group.addoption(
        "--benchmark-inputs",
        metavar="FOLDER",
        help="With --benchmark: pictures, .npy or .npz files; a model whose answers to them are not those of the "
        "reference fails. Write --benchmark-inputs=FOLDER.",
    )


_OPTIONS = ("benchmark_model", "benchmark_on", "benchmark_inputs")


def pytest_configure(config: pytest.Config) -> None:
    """Bring in the rest where it is asked for."""
    if not config.getoption("benchmark"):
        if given := [f"--{name.replace('_', '-')}" for name in _OPTIONS if config.getoption(name)]:
            raise pytest.UsageError(f"{' and '.join(given)} need{'s' * (len(given) == 1)} --benchmark")
        return
    if config.getoption("dist", "no") != "no" or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            "--benchmark measures one device after the other, and pytest-xdist's workers would take the machine from "
            "each other (pytest-benchmark measures nothing under them): leave -n out, or give -n 0"
        )
    if importlib.util.find_spec("pytest_benchmark") is None:
        raise pytest.UsageError('--benchmark needs pytest-benchmark: pip install "edge-accelerate[bench]"')
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("--benchmark needs the plugin pytest-benchmark, which is switched off here")
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = []
    from accelerate.bench.pytest_plugin import DeviceComparison

    config.pluginmanager.register(DeviceComparison(config))
