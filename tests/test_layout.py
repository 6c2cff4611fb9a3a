"""The rules of the tree: which way imports go, what a backend may import, and that the core names no runtime.

Every import counts: those inside functions and those for type checkers, too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import ROOT

#: What the lower rooms (errors, metadata, source, formats/, ...) stand below: who decides, who runs, who shows.
_UPPER = (
    "api", "loading", "planning", "registry", "contract", "model", "runtime_model", "combined", "mapping", "image",
    "vision", "testing", "bench", "boards", "serve", "cli",
)  # fmt: skip
_LOWER = ("errors", "metadata", "source", "formats", "calls", "system", "diagnosis")
#: All of the core that a backend imports.
_DOORS = ("accelerate.contract", "accelerate.errors", "accelerate.metadata", "accelerate.formats")
#: Backends that share another one's code.
_SHARED = {"tflite_cpu": "tflite", "edgetpu": "tflite", "tflite_delegate": "tflite"}
_RUNTIMES = re.compile(
    "litert|tflite[-_]?runtime|onnx[-_ ]?runtime|openvino|triton|grpc|edge ?tpu|coral|tensorrt|cuda|nvidia|xnnpack",
    re.I,
)
#: Which files of the core may name a runtime all the same, and why.
_EXCUSED = {
    **dict.fromkeys(
        (
            "accelerate.cli.inspection",
            "accelerate.formats.description",
            "accelerate.formats.openvino.description",
            "accelerate.formats.sniffing",
            "accelerate.source",
        ),
        "a format that is called by the name of its runtime",
    ),
    "accelerate.diagnosis.board": "boards, by the names that their makers give them and their packages",
    "accelerate.diagnosis.permissions": "device files, by the names that their drivers give them",
    # "edgetpu-custom-op" stands in the files that its compiler writes; what such a file needs, two backends say
    "accelerate.formats.tflite.compiled": "the format of compiled models",
    "accelerate.services.arguments": "which backend is the counterpart of whose models",
    "accelerate.services.server": "the configuration of another program's module, which is called by its runtime",
    "accelerate.serve.viam.rpc": "the protocol of Viam's SDK, called by its library",
    **dict.fromkeys(
        (
            "accelerate.formats.open_inference.library",
            "accelerate.formats.open_inference.messages",
            "accelerate.serve.open_inference",
            *(
                f"accelerate.serve.open_inference.{name}"
                for name in (
                    "address",
                    "peers",
                    "refusals",
                    "regions",
                    "requests",
                    "running",
                    "served",
                    "server",
                    "service",
                    "tensors",
                )
            ),
        ),
        "the protocol's library, called by its name",
    ),
    "accelerate.boards.masking": "makers of boards, by the names that they give users and hosts",
    "accelerate.cli.serve": "the URL by which clients reach a model",
    "accelerate.formats.likeness": "files that only the tools of other runtimes write, called by their names",
}


@dataclass(frozen=True)
class Module:
    """A module's code and what it imports: (the module, by how many dots)."""

    tree: ast.Module
    imports: tuple[tuple[str, int], ...] = field(default=())


def read(root: Path) -> dict[str, Module]:
    """Read accelerate/ and backends/ of a tree; the modules by their full names."""
    paths = {}
    for folder, package in (("accelerate", "accelerate"), ("backends", "accelerate.backends")):
        for path in (root / folder).rglob("*.py"):
            parts = path.relative_to(root / folder).with_suffix("").parts
            if folder == "backends" or parts[0] not in ("backends", "data"):
                paths[".".join((package, *parts)).removesuffix(".__init__")] = path
    modules = {}
    for name, path in sorted(paths.items()):
        tree = ast.parse(path.read_text())
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        modules[name] = Module(tree, tuple(_imports(tree, package, paths)))
    return modules


def _imports(tree: ast.Module, package: str, known: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join((*parts, *filter(None, [node.module])))
            for alias in node.names:
                yield (f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base), node.level


def circles(modules: Mapping[str, Module]) -> Iterator[list[str]]:
    """Yield the shortest circle through each module that is in one."""
    graph = {
        name: sorted({found for found, _ in module.imports if found in modules and found != name})
        for name, module in modules.items()
    }
    for start in graph:
        paths = [[start]]
        seen: set[str] = set()
        while paths:
            path = paths.pop(0)
            for after in graph[path[-1]]:
                if after == start:
                    yield [*path, start]
                    paths = []
                    break
                if after not in seen:
                    seen.add(after)
                    paths.append([*path, after])


def upward(modules: Mapping[str, Module]) -> Iterator[str]:
    """Yield the imports from a lower room of the core into an upper one, and from the core into a backend."""
    for name, module in modules.items():
        room = _room(name)
        for found, _ in module.imports:
            if name.startswith("accelerate.backends") or not found.startswith("accelerate"):
                continue
            if room in _LOWER and (found == "accelerate" or _room(found) in _UPPER):
                yield f"{name} imports {found}"
            if _is_in(found, "accelerate.backends"):
                yield f"{name} imports {found}"


def past_the_door(modules: Mapping[str, Module]) -> Iterator[str]:
    """Yield what backends import in another way than a stranger's backend would."""
    for name, module in modules.items():
        if not name.startswith("accelerate.backends."):
            continue
        own = name.split(".")[2]
        for found, dots in module.imports:
            if not found.startswith("accelerate"):
                continue
            if dots:
                allowed = _is_in(found, f"accelerate.backends.{own}")
            else:
                shared = [f"accelerate.backends.{_SHARED[own]}"] if own in _SHARED else []
                allowed = any(_is_in(found, door) for door in (*_DOORS, *shared))
            if not allowed:
                yield f"{name} imports {'.' * dots}{found}"


def runtimes(modules: Mapping[str, Module]) -> Iterator[str]:
    """Yield the identifiers and texts of the core, other than docstrings, that name a runtime."""
    for name, module in modules.items():
        if name.startswith("accelerate.backends") or name in _EXCUSED:
            continue
        for line, said in _said(module.tree):
            if _RUNTIMES.search(said):
                yield f"{name}:{line} says {said!r:.100}"


def _said(tree: ast.Module) -> Iterator[tuple[int, str]]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree)  # type: ignore[attr-defined]
                  if isinstance(node, documented) and ast.get_docstring(node) is not None}  # fmt: skip
    for node in ast.walk(tree):
        words: list[object] = [value for _, value in ast.iter_fields(node) if isinstance(value, (str, bytes))]
        for word in [] if id(node) in docstrings else words:
            yield getattr(node, "lineno", 0), word.decode("latin-1") if isinstance(word, bytes) else str(word)


def hidden(modules: Mapping[str, Module]) -> Iterator[str]:
    """Yield the modules that ``from package import name`` does not give, for the package has another such name."""
    for name, module in modules.items():
        for node in module.tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                yield from (
                    f"{name}.{public}" for public in ast.literal_eval(node.value) if f"{name}.{public}" in modules
                )


def _room(name: str) -> str:
    return (*name.split("."), "")[1]


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.fixture(scope="module")
def tree() -> dict[str, Module]:
    return read(ROOT)


def test_no_imports_go_in_a_circle(tree: Mapping[str, Module]) -> None:
    assert [" -> ".join(circle) for circle in circles(tree)] == []


def test_imports_go_one_way(tree: Mapping[str, Module]) -> None:
    assert list(upward(tree)) == []


def test_backends_come_in_by_the_door(tree: Mapping[str, Module]) -> None:
    assert list(past_the_door(tree)) == []


def test_the_core_names_no_runtime(tree: Mapping[str, Module]) -> None:
    assert list(runtimes(tree)) == []
    assert set(_EXCUSED) <= set(tree)


def test_no_module_hides_behind_a_public_name_of_its_package(tree: Mapping[str, Module]) -> None:
    assert list(hidden(tree)) == []


# The rules themselves: what breaks one is found

_PLANTED = [
    (circles, "accelerate/errors.py", "if TYPE_CHECKING:\n    from .model import Model"),
    (circles, "accelerate/errors.py", "def late():\n    from . import api"),
    (circles, "accelerate/model.py", "import accelerate.api"),
    (circles, "backends/edgetpu/library.py", "from . import EdgeTPU"),
    (upward, "accelerate/calls/names.py", "def late():\n    from ..contract import Backend"),
    (upward, "accelerate/formats/labels.py", "from .. import load"),
    (upward, "accelerate/system/cache.py", "from accelerate import cli"),
    (upward, "accelerate/source.py", "import accelerate.registry"),
    (upward, "accelerate/cli/run.py", "from ..backends.triton import Triton"),
    (upward, "accelerate/bench/rows.py", "def late():\n    import accelerate.backends.tflite_cpu"),
    (past_the_door, "backends/onnxruntime/model.py", "from accelerate.system.cache import folder"),
    (past_the_door, "backends/onnxruntime/model.py", "from accelerate import load"),
    (past_the_door, "backends/onnxruntime/model.py", "from ...errors import OptionError"),
    (past_the_door, "backends/edgetpu/model.py", "from ..tflite.model import TFLiteModel"),
    (past_the_door, "backends/triton/model.py", "def late():\n    from accelerate.backends.tflite import model"),
    (past_the_door, "backends/triton/model.py", "import accelerate.backends.triton.address"),
    (runtimes, "accelerate/planning.py", "PREFERRED = 'onnxruntime'"),
    (runtimes, "accelerate/system/stderr.py", "NOISE = re.compile(rb'INFO: Created TensorFlow Lite XNNPACK delegate')"),
    (runtimes, "accelerate/bench/machine.py", "import tritonclient"),
    (runtimes, "accelerate/bench/machine.py", "def find_cuda(): pass"),
    (hidden, "accelerate/__init__.py", "__all__ = ['load', 'planning']"),
    (runtimes, "accelerate/bench/machine.py", "x = f'{y} on the Edge TPU'"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "file", "code"), _PLANTED)
def test_a_breach_is_found(rule: object, file: str, code: str, tree: Mapping[str, Module]) -> None:
    name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    name = name if name.startswith("accelerate") else f"accelerate.{name}"
    planted = ast.parse(code)
    broken = Module(planted, (*tree[name].imports, *_imports(planted, name.rpartition(".")[0], tree)))
    assert callable(rule)
    assert list(rule({**tree, name: broken}))
