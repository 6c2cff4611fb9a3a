"""What several test files share."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from viam_server import ViamServer

try:
    from hypothesis import settings
except ImportError:  # not in every environment that runs some of the tests
    pass
else:  # machines are shared: how long an example takes says nothing of it
    settings.register_profile("shared machine", deadline=None)
    settings.load_profile("shared machine")

ROOT = Path(__file__).resolve().parents[1]


def find_models() -> Path | None:
    """Return the folder of real models, which are not part of the project, or None."""
    given = os.environ.get("EDGE_ACCELERATE_TEST_MODELS")
    folder = Path(given) if given else ROOT.parent / "shared" / "models"
    return folder if folder.is_dir() else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let one worker of pytest-xdist have all tests of a file, and of a server that several files share."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            name = item.path.name
            item.add_marker(pytest.mark.xdist_group("triton" if name.startswith("test_triton") else name))


# what a test runs as a program of its own, another pytest for one, is no worker
for _name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
    os.environ.pop(_name, None)


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of real models (see tests/README.md)."""
    folder = find_models()
    if folder is None:
        pytest.skip("the real models are not here; set EDGE_ACCELERATE_TEST_MODELS to their folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep verdicts out of the user's cache folder."""
    before = os.environ.get("EDGE_ACCELERATE_CACHE")
    os.environ["EDGE_ACCELERATE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["EDGE_ACCELERATE_CACHE"]
    else:
        os.environ["EDGE_ACCELERATE_CACHE"] = before


@pytest.fixture(scope="session")
def viam_server() -> Iterator[ViamServer]:
    """A server of Viam's SDK, for tests that only call its models."""
    from viam_server import ViamServer

    with ViamServer() as server:
        yield server


@pytest.fixture
def url(viam_server: ViamServer) -> Callable[[str], str]:
    """What makes the URL of a service of that server."""
    return viam_server.url


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop of the program's own, in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
