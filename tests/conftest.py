"""What several test files share."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from viam_server import ViamServer
    from xdist.scheduler import LoadScopeScheduling

try:
    from hypothesis import settings
except ImportError:  # not in every environment that runs some of the tests
    pass
else:  # machines are shared: how long an example takes says nothing of it
    settings.register_profile("shared machine", deadline=None)
    settings.load_profile("shared machine")

ROOT = Path(__file__).resolve().parents[1]
#: The groups of tests that take longest, by falling time: see `group_of`.
_LONGEST = (
    "triton", "test_cli.py", "test_conformance_openvino.py", "test_conformance_delegate.py", "test_edgetpu.py",
    "test_install.py", "test_bench_cli.py", "test_conformance_catches.py", "test_isolation.py", "test_onnxruntime.py",
    "test_tflite_delegate.py", "test_cli_vision.py", "test_bench.py", "test_examples.py", "test_fuzz_tflite.py",
)  # fmt: skip


def find_models() -> Path | None:
    """Return the folder of real models, which are not part of the project, or None."""
    given = os.environ.get("EDGE_ACCELERATE_TEST_MODELS")
    folder = Path(given) if given else ROOT.parent / "shared" / "models"
    return folder if folder.is_dir() else None


def group_of(name: str) -> str:
    """Return what a file's tests belong to: themselves, or the server that several files share."""
    return "triton" if name.startswith("test_triton") else name


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Let one worker have all tests of a group, the longest groups first.

    ``--dist loadgroup`` would do for the groups, but with pytest 9.2 pytest-xdist 3.8 no longer sees their marks, and
    deals out single tests: each worker then makes what is made once for a file.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group_of(Path(nodeid.partition("::")[0]).name)

    config.option.loadscopereorder = False  # by the number of tests, which says nothing of how long they take
    return Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: no worker is to be alone with it at the end."""
    place = {group: number for number, group in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(group_of(item.path.name), len(place)))


# what a shell without job control starts with & ignores Ctrl-C, and so would the programs that tests interrupt
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# what a test runs as a program of its own, another pytest for one, is no worker
for _name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
    os.environ.pop(_name, None)


@pytest.fixture(scope="module", autouse=True)
def _openvino_that_crashes(request: pytest.FixtureRequest) -> None:
    """Leave out the tests of OpenVINO where it ends every program that loads a model, as on an emulated Cortex-A72."""
    if "openvino" in request.path.name and platform.machine() == "aarch64":
        import accelerate

        state = accelerate.list_backends()["openvino"]
        if not state.available and "crashes on this machine" in state.reason:
            pytest.skip(state.reason)


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of real models (see tests/README.md)."""
    folder = find_models()
    if folder is None:
        pytest.skip("the real models are not here; set EDGE_ACCELERATE_TEST_MODELS to their folder")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _small_heap() -> None:
    """Leave what was there before a file's tests out of their collections: a third of a second each, and many."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _one_worker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hold that a group's tests are not dealt out to several workers."""
    worker = getattr(request.config, "workerinput", None)
    if worker is not None:
        owner = tmp_path_factory.getbasetemp().parent / f"who has {group_of(request.path.name)}"
        with contextlib.suppress(FileExistsError), owner.open("x") as file:
            file.write(worker["workerid"])
        assert owner.read_text() == worker["workerid"], "two workers have tests of one group"


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
