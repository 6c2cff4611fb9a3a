"""Real installations: wheels, environments, strangers' backends, and Hugging Face's package of the same name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import engines
import pytest
from conftest import ROOT

_NOT_THE_TREE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
_LITERT_ONLY = pytest.mark.skipif("litert" not in engines.INSTALLED, reason="LiteRT is not installed here")


def call(*command: object, cwd: Path, status: int = 0, **environment: str) -> str:
    """Run a command outside of this environment's settings; return stdout and stderr."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "COV_", "COVERAGE"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment that shares the installed libraries of this one, but none of its `accelerate`."""

    folder: Path
    site: Path

    @property
    def scripts(self) -> Path:
        return self.folder / "bin"

    def python(self, code: str, *, status: int = 0, **environment: str) -> str:
        """Run code in the environment's folder, where nothing can be imported from by accident."""
        return call(self.scripts / "python", "-c", textwrap.dedent(code), cwd=self.folder, status=status, **environment)

    def pip(self, *arguments: object) -> str:
        return call(self.scripts / "python", "-m", "pip", *arguments, cwd=self.folder)

    def install(self, *what: object) -> None:
        self.pip("install", "--quiet", "--no-compile", "--no-index", "--no-deps", "--no-build-isolation", *what)


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to the libraries installed here, without this project: nothing is downloaded twice."""
    folder = tmp_path_factory.mktemp("libraries")
    for place in dict.fromkeys(p for p in sys.path if Path(p).name == "site-packages"):
        for entry in Path(place).iterdir():
            ours = re.match(
                r"accelerate\b|(__editable__.*)?edge_accelerate|__pycache__|.*\.(pth|egg-link)$", entry.name
            )
            if not ours and not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture
def new_environment(tmp_path: Path, libraries: Path) -> Callable[..., Environment]:
    """Make an environment; what it is given is installed into it."""

    def create(*what: object) -> Environment:
        folder = tmp_path / "environment"
        call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=tmp_path)
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "libraries.pth").write_text(f"{libraries}\n")
        script = folder / "bin" / "pip"
        script.write_text(f"#!{folder}/bin/python\nfrom pip._internal.cli.main import main\nraise SystemExit(main())\n")
        script.chmod(0o755)
        environment = Environment(folder, site)
        if what:
            environment.install(*what)
        return environment

    return create


def copy_of_tree(folder: Path) -> Path:
    """Copy the working tree: building in it would leave its traces there."""
    return shutil.copytree(ROOT, folder / "edge-accelerate", symlinks=True, ignore=_NOT_THE_TREE)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the working tree in which nothing has been built or installed."""
    return copy_of_tree(tmp_path_factory.mktemp("tree"))


def build_wheel(source: Path, target: Path) -> Path:
    call(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation",
        "--wheel-dir", target, source, cwd=target.parent,
    )  # fmt: skip
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    return build_wheel(copy_of_tree(folder), folder / "wheel")


def packed(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


# What is installed


@pytest.mark.slow
def test_the_wheel_holds_the_tree(wheel: Path, tree: Path, tmp_path: Path) -> None:
    package = tmp_path / "accelerate"
    shutil.copytree(tree / "accelerate", package)  # follows the link to backends/
    wanted = {path.relative_to(tmp_path).as_posix() for path in package.rglob("*") if path.is_file()}
    assert {"accelerate/py.typed", "accelerate/data/digits_uint8.tflite", "accelerate/backends/__init__.py"} < wanted
    names = packed(wheel)
    info = {name for name in names if ".dist-info/" in name}
    assert names - info == wanted | {"edge_accelerate_cli.py", "edge_accelerate_pytest.py"}
    assert any(name.endswith("/LICENSE") for name in info)


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    code = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    call(sys.executable, "-c", code, cwd=copy_of_tree(tmp_path))
    (sdist,) = tmp_path.glob("*.tar.gz")
    assert packed(build_wheel(sdist, tmp_path / "from sdist")) == packed(wheel)


def test_backends_is_a_link_in_git() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = call("git", "ls-files", "--stage", "accelerate/backends", cwd=ROOT)
    assert listed.startswith("120000 ")
    assert (ROOT / "accelerate" / "backends").readlink() == Path("../backends")


def test_import_loads_nothing_that_it_does_not_need(tree: Path, new_environment: Callable[..., Environment]) -> None:
    code = """
        import sys, numpy
        before = set(sys.modules)
        import accelerate
        print(*sorted(set(sys.modules) - before))
    """
    loaded = set(new_environment().python(code, PYTHONPATH=str(tree)).split())
    assert "accelerate.api" in loaded
    slow = {"asyncio", "importlib.metadata", "subprocess", "flatbuffers", "multiprocessing", "click", "rich", "PIL"}
    runtimes = {"ai_edge_litert", "tflite_runtime", "onnxruntime", "tritonclient", "grpc", "accelerate.backends"}
    assert not {name for name in loaded for unwanted in slow | runtimes if f"{name}.".startswith(f"{unwanted}.")}


@_LITERT_ONLY
def test_load_reads_entry_points_from_folders(
    tree: Path, tmp_path: Path, new_environment: Callable[..., Environment]
) -> None:
    info = tmp_path / "edge_accelerate-1.dist-info"
    info.mkdir()
    declared = "[accelerate.backends]\ntflite_cpu = accelerate.backends.tflite_cpu:TFLiteCPU\n"
    (info / "entry_points.txt").write_text(declared)
    code = """
        import sys, accelerate
        accelerate.load(accelerate.__path__[0] + "/data/digits_uint8.tflite").close()
        print("importlib.metadata" in sys.modules)
    """
    path = os.pathsep.join(map(str, (tree, tmp_path)))
    assert new_environment().python(code, PYTHONPATH=path) == "False\n"


@_LITERT_ONLY
@pytest.mark.parametrize("registered", [True, False])
def test_the_tree_works_under_another_import_name(
    registered: bool, tree: Path, tmp_path: Path, new_environment: Callable[..., Environment]
) -> None:
    site = tmp_path / "renamed"
    shutil.copytree(tree / "accelerate", site / "edgeacc")
    for path in (site / "edgeacc" / "backends").rglob("*.py"):  # which name the core as a stranger's do
        path.write_text(re.sub(r"(?m)^(\s*from )accelerate\b", r"\1edgeacc", path.read_text()))
    if registered:
        info = site / "edgeacc-1.0.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(
            "[accelerate.backends]\ntflite_cpu = edgeacc.backends.tflite_cpu:TFLiteCPU\n"
        )
    code = """
        import sys, numpy as np
        import edgeacc
        from edgeacc.backends.tflite_cpu import TFLiteCPU
        model = edgeacc.__path__[0] + "/data/digits_uint8.tflite"
        if "tflite_cpu" in edgeacc.list_backends():
            loaded = edgeacc.load(model)
        else:
            loaded = TFLiteCPU().load(edgeacc.Source(model), edgeacc.LoadOptions())
        with loaded:
            (tensor,) = loaded.metadata().inputs
            print(type(loaded).__module__, sorted(loaded.infer(np.zeros(tensor.shape, np.uint8))))
        print([name for name in sys.modules if name.partition(".")[0] == "accelerate"])
    """
    said = new_environment().python(code, PYTHONPATH=str(site)).splitlines()
    assert said[0].startswith("edgeacc.backends.tflite.model")
    assert said[1] == "[]"


if "tflite-runtime" in engines.INSTALLED:  # in the second environment of `make test`

    def test_tflite_runtime_alone(wheel: Path, new_environment: Callable[..., Environment], libraries: Path) -> None:
        """On a 32-bit ARM board there is no LiteRT."""
        environment = new_environment(wheel)
        without = environment.folder / "libraries"
        without.mkdir()
        for entry in libraries.iterdir():
            if not entry.name.startswith(("ai_edge_litert", "flatbuffers_schema")):
                (without / entry.name).symlink_to(entry.readlink())
        (environment.site / "libraries.pth").write_text(f"{without}\n")
        code = """
            import accelerate, importlib.util, numpy as np
            assert importlib.util.find_spec("ai_edge_litert") is None
            with accelerate.load(accelerate.__path__[0] + "/data/digits_uint8.tflite") as model:
                (tensor,) = model.metadata().inputs
                model.infer(np.zeros(tensor.shape, np.uint8))
                print(model.runtime.name, accelerate.list_backends()["tflite_cpu"].available)
        """
        assert environment.python(code) == "tflite-runtime True\n"


# Hugging Face's `accelerate`


@pytest.fixture(scope="session")
def hugging_face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the other distribution with our import name."""
    folder = tmp_path_factory.mktemp("hugging-face")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--retries=1"]
    done = subprocess.run(
        [*command, "--timeout=30", "accelerate>=1"], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        if "connection broken" in done.stdout + done.stderr or os.environ.get("PIP_NO_INDEX"):
            pytest.skip("PyPI cannot be reached, and so Hugging Face accelerate cannot be installed")
        pytest.fail(done.stderr)
    (wheel,) = folder.glob("accelerate-*.whl")
    return wheel


def command_line(environment: Environment, *arguments: str, status: int = 0, **variables: str) -> str:
    said = call(environment.scripts / "edge-accelerate", *arguments, cwd=environment.folder, status=status, **variables)
    assert "Traceback" not in said
    return said


def repair(said: str, environment: Environment, wheel: Path) -> None:
    """Do literally what the message says; the wheel's folder stands for the package index."""
    commands = re.findall(r"^ +(pip .*)$", said, re.MULTILINE)
    assert len(commands) == 2, said
    path = f"{environment.scripts}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        call(
            "sh", "-ec", command, cwd=environment.folder, PATH=path, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheel.parent),
            PIP_COMPILE="0",
        )  # fmt: skip
    code = "import accelerate; print(accelerate.load, 'tflite_cpu' in accelerate.list_backends())"
    assert environment.python(code).endswith("True\n")
    command_line(environment, "--help")


@pytest.mark.slow
@pytest.mark.parametrize("ours_last", [True, False], ids=["ours last", "theirs last"])
def test_both_in_one_environment(
    ours_last: bool, wheel: Path, hugging_face: Path, new_environment: Callable[..., Environment]
) -> None:
    environment = new_environment()
    for distribution in (hugging_face, wheel) if ours_last else (wheel, hugging_face):
        environment.install(distribution)
    said = command_line(environment, "doctor", status=1)
    assert "Hugging Face accelerate" in said
    assert str(environment.site) in said
    if ours_last:
        code = """
            try:
                import accelerate
            except ImportError as error:
                print(error)
        """
        assert re.findall(r"^ +(pip .*)$", environment.python(code), re.MULTILINE) == re.findall(
            r"^ +(pip .*)$", said, re.MULTILINE
        )
    repair(said, environment, wheel)


@pytest.mark.slow
@pytest.mark.parametrize("ours_last", [True, False], ids=["ours last", "theirs last"])
def test_theirs_was_uninstalled(
    ours_last: bool, wheel: Path, hugging_face: Path, new_environment: Callable[..., Environment]
) -> None:
    """It takes our `__init__.py` with it: what is left can be imported as a namespace package, with nothing in it."""
    environment = new_environment()
    for distribution in (hugging_face, wheel) if ours_last else (wheel, hugging_face):
        environment.install(distribution)
    environment.pip("uninstall", "-y", "--quiet", "accelerate")
    assert not (environment.site / "accelerate" / "__init__.py").exists()
    repair(command_line(environment, "doctor", status=1), environment, wheel)


@pytest.mark.slow
def test_theirs_in_another_folder(wheel: Path, hugging_face: Path, new_environment: Callable[..., Environment]) -> None:
    environment = new_environment(wheel)
    other = environment.folder / "other"
    environment.install("--target", other, hugging_face)
    (environment.site / "zz-other.pth").write_text(f"{other}\n")
    assert environment.python("import accelerate; print(accelerate.load.__module__)") == "accelerate.api\n"
    command_line(environment, "--help")
    # earlier on sys.path it is what every program imports: nothing is damaged, and the command line says so
    said = command_line(environment, "--help", status=1, PYTHONPATH=str(other))
    assert str(other) in said


@pytest.mark.slow
def test_theirs_beside_an_editable_installation(
    tmp_path: Path, hugging_face: Path, new_environment: Callable[..., Environment]
) -> None:
    """The editable installation's finder comes after site-packages: theirs is what programs import."""
    environment = new_environment()
    environment.install("-e", copy_of_tree(tmp_path))
    assert environment.python("import accelerate; print(accelerate.load.__module__)") == "accelerate.api\n"
    environment.install(hugging_face)
    said = command_line(environment, "--help", status=1)
    assert str(environment.site) in said


# Backends of other distributions

EXAMPLE = ROOT / "docs" / "example-backend"  # all that a stranger writes for a runtime with a format of its own


def distribution(site: Path, backend: str, code: str, *, module: str = "", attribute: str = "TheBackend") -> None:
    """Write what pip makes of a stranger's repository, as `test_a_strangers_backend` sees it do."""
    module = module or backend
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[accelerate.backends]\n{backend} = {module}:{attribute}\n")
    (site / f"{module}.py").write_text(code)


@pytest.mark.slow
def test_a_strangers_backend(wheel: Path, tmp_path: Path, new_environment: Callable[..., Environment]) -> None:
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "example"))
    environment = new_environment(wheel, folder)
    code = """
        import accelerate, numpy as np
        np.savez("double.npz", a=np.float32(2), b=np.float32(0), shape=np.array([3]))
        print(accelerate.list_backends()["npz_affine"])
        for backend in ("npz_affine", "auto"):
            with accelerate.load("double.npz", backend=backend) as model:
                print(model.backend, model.infer([1, 2.5, 3])["y"], model.runtime)
        from accelerate.cli.inspection import inspect_model
        report = inspect_model("double.npz")
        print(report["file"]["format"], [t["shape"] for t in report["content"]["graphs"][0]["inputs"]])
    """
    rows = environment.python(code).splitlines()
    assert "available=True" in rows[0]
    assert [line.partition(" Runtime")[0] for line in rows[1:3]] == ["npz_affine [2. 5. 6.]"] * 2
    assert rows[3] == "npz [(3,)]"

    pytest_command = [
        environment.scripts / "python",
        "-m",
        "pytest",
        "-q",
        "-W",
        "error",
        "-rs",
        "-p",
        "no:cacheprovider",
    ]
    said = call(*pytest_command, "test_npz_affine.py", cwd=folder)
    assert int(re.findall(r"(\d+) passed", said)[0]) >= 30
    skipped = re.findall(r"supplies no '(\w+)' model", said)
    beside = len(re.findall("takes no num_threads|nothing to let go", said))
    assert len(skipped) + beside == said.count("SKIPPED"), said
    assert not {"plain", "batched", "dynamic", "image"} & set(skipped)


@pytest.mark.slow
def test_a_strangers_backend_is_typed(wheel: Path, tmp_path: Path, new_environment: Callable[..., Environment]) -> None:
    pytest.importorskip("mypy")
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "example"))
    environment = new_environment(wheel)
    call(environment.scripts / "python", "-m", "mypy", "--strict", "--cache-dir", tmp_path, "npz_affine.py", cwd=folder)


TAKES_OPTIONS = """\
from accelerate import Backend

class TheBackend(Backend):
    name, description, extra = "{name}", "", ""
    options = {options}
    availability = devices = match = load = None
"""

BROKEN = {
    "exits": ("raise SystemExit('no licence found')", "SystemExit: no licence found"),
    "raises": ("raise RuntimeError('the driver is too old')", "RuntimeError: the driver is too old"),
    "misses": ("import a_library_that_is_not_here", "No module named 'a_library_that_is_not_here'"),
    "empty": ("", "has no attribute 'TheBackend'"),
    "no_class": ("class TheBackend: pass", "not a subclass of accelerate.Backend"),
    "undescribed": (
        (EXAMPLE / "npz_affine.py")
        .read_text()
        .replace("class NpzAffine", "class TheBackend")
        .replace('"npz_affine"', '"undescribed"')
        .replace("description =", "summary ="),
        "description",
    ),
    "listed": (TAKES_OPTIONS.format(name="listed", options="['engine']"), "wanted a tuple of str"),
    "counted": (TAKES_OPTIONS.format(name="counted", options="('engine', 1)"), "wanted a tuple of str"),
    "shapeless": (
        TAKES_OPTIONS.format(name="shapeless", options="(); formats = {'npz': None}"),
        "wanted a mapping of str to str",
    ),
    "misnamed": (
        (EXAMPLE / "npz_affine.py").read_text().replace("class NpzAffine", "class TheBackend"),
        "calls itself 'npz_affine', declared as 'misnamed'",
    ),
}

# imports well and then fails wherever it is asked; its variants each get one question further
LATE = """\
from accelerate import Backend

class TheBackend(Backend):
    name, description, extra = "late", "fails when asked", ""

    def availability(self):
        raise RuntimeError("availability")

    def devices(self, options):
        raise RuntimeError("devices")

    def match(self, source, options):
        raise RuntimeError("match")

    def load(self, source, options):
        raise RuntimeError("load")
"""
LATER = LATE.replace('"late"', '"later"').replace(
    'raise RuntimeError("availability")', 'return __import__("accelerate").Availability(True, "1")'
)
LATEST = (
    LATER.replace('"later"', '"latest"')
    .replace('raise RuntimeError("devices")', 'return [__import__("accelerate").Device("latest", "cpu", "cpu", "CPU")]')
    .replace('raise RuntimeError("match")', 'return __import__("accelerate").Match(True, "takes everything")')
)


@pytest.mark.slow
@_LITERT_ONLY
def test_a_broken_backend_stops_nothing(wheel: Path, new_environment: Callable[..., Environment]) -> None:
    environment = new_environment(wheel)
    for name, (code, _) in BROKEN.items():
        distribution(environment.site, name, code)
    for name, code in (("late", LATE), ("later", LATER), ("latest", LATEST)):
        distribution(environment.site, name, code)
    code = """
        import accelerate, logging, numpy as np
        logging.disable()
        listed = accelerate.list_backends()
        for name, row in listed.items():
            print("listed", name, row.available, row.reason, "|", row.remedy)
        for device in accelerate.list_devices():
            print("device", device.backend, device.ready, device.reason)
        with accelerate.load(accelerate.__path__[0] + "/data/digits_uint8.tflite") as model:
            (tensor,) = model.metadata().inputs
            model.infer(np.zeros(tensor.shape, np.uint8))
            print("loaded", model.backend)
        for name in listed:
            if not listed[name].available:
                try:
                    accelerate.load("/dev/null", backend=name)
                except accelerate.BackendNotAvailableError as error:
                    print("refused", name, repr(error.__cause__))
                except accelerate.ModelError:
                    pass
    """
    said = environment.python(code)
    for name, (_, reason) in BROKEN.items():
        (line,) = re.findall(rf"^listed {name} False .*$", said, re.MULTILINE)
        assert reason in line
        assert line.partition("|")[2].strip()
        assert re.search(rf"^refused {name} \w+\(", said, re.MULTILINE), said
    assert re.search(r"^listed late False .*RuntimeError: availability", said, re.MULTILINE)
    assert re.search(r"^device tflite_cpu True", said, re.MULTILINE)
    assert re.search(r"^device later False .*RuntimeError: devices", said, re.MULTILINE)
    assert "\nloaded tflite_cpu\n" in said


@pytest.mark.slow
def test_one_name_declared_twice(wheel: Path, new_environment: Callable[..., Environment]) -> None:
    twin = (EXAMPLE / "npz_affine.py").read_text().replace('"npz_affine"', '"twin"')
    environment = new_environment(wheel)
    for module in ("one_twin", "other_twin"):
        distribution(environment.site, "twin", twin, module=module, attribute="NpzAffine")
    code = """
        import accelerate, logging
        logging.basicConfig(format="%(levelname)s %(message)s")
        for _ in range(3):
            assert accelerate.list_backends()["twin"].available
    """
    said = environment.python(code).splitlines()
    assert len(said) == 1, said
    assert said[0].startswith("WARNING backend 'twin' is declared twice: one_twin:NpzAffine is used")


def test_the_registry_reads_what_importlib_metadata_reads(
    tree: Path, tmp_path: Path, new_environment: Callable[..., Environment]
) -> None:
    """Every spelling that the packaging specifications allow, and copies further down `sys.path`."""
    files = {
        "first/Odd.Name-1.0.dist-info": "[accelerate.backends]\n# a comment\n  spaced  =  odd.module : Class.inner  \n",
        "first/extras-2.dist-info": "[scripts]\nno = no:no\n\n[accelerate.backends]\nx = m:C [gpu,cpu]\n[z]\na=b:c",
        "first/legacy.egg-info": "[accelerate.backends]\nlegacy=legacy:Class\n",
        "first/nothing-1.dist-info": "",
        "second/odd_name-2.0.dist-info": "[accelerate.backends]\nshadowed = no:no\n",
        "second/late-1!2.0+local.dist-info": "[accelerate.backends]\nlate = late.a.b:C\n",
    }
    for name, text in files.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "entry_points.txt").write_text(text)
        distribution_name = Path(name).name.rpartition(".")[0].partition("-")[0]
        metadata = "PKG-INFO" if name.endswith("egg-info") else "METADATA"
        (tmp_path / name / metadata).write_text(f"Metadata-Version: 2.1\nName: {distribution_name}\nVersion: 1\n")
    (tmp_path / "first" / "a_file-1.egg-info").write_text("Name: a_file\n")
    code = """
        import importlib.metadata
        from accelerate.registry import _declared
        found = importlib.metadata.entry_points(group="accelerate.backends")
        theirs = {point.name: f"{point.module}:{point.attr}" for point in found}
        ours = _declared()
        print(sorted(theirs))
        assert {name: target.replace(" ", "") for name, target in ours.items()} == theirs, (ours, theirs)
    """
    path = os.pathsep.join(str(p) for p in (tmp_path / "first", "missing", tmp_path / "second", tree))
    said = new_environment().python(code, PYTHONPATH=path)
    assert said == "['late', 'legacy', 'spaced', 'x']\n"


def zipped_plugin(folder: Path) -> Path:
    """Pack a stranger's distribution, as it lies in site-packages, into a zip file."""
    archive = folder / "plugins.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(EXAMPLE / "npz_affine.py", "npz_affine.py")
        info = "npz_affine-1.0.dist-info"
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: npz_affine\nVersion: 1.0\n")
        file.writestr(f"{info}/entry_points.txt", "[accelerate.backends]\nnpz_affine = npz_affine:NpzAffine\n")
    return archive


def test_a_backend_in_a_zip_file(tree: Path, tmp_path: Path, new_environment: Callable[..., Environment]) -> None:
    archive = zipped_plugin(tmp_path)
    code = """
        import accelerate, sys
        assert accelerate.list_backends()["npz_affine"].available
        print("importlib.metadata" in sys.modules, sys.modules["npz_affine"].__file__)
    """
    path = os.pathsep.join(map(str, (tree, archive)))
    assert new_environment().python(code, PYTHONPATH=path) == f"True {archive / 'npz_affine.py'}\n"


def test_a_damaged_zip_file_stops_nothing(
    tree: Path, tmp_path: Path, new_environment: Callable[..., Environment]
) -> None:
    archive = zipped_plugin(tmp_path)
    archive.write_bytes(archive.read_bytes()[:200])
    code = "import accelerate; print(list(accelerate.list_backends()))"
    assert new_environment().python(code, PYTHONPATH=os.pathsep.join(map(str, (archive, tree)))) == "[]\n"


def test_a_frozen_program(tree: Path, tmp_path: Path, new_environment: Callable[..., Environment]) -> None:
    """A stand-in for what PyInstaller and the like make: nothing of the program's own lies in a folder."""
    archive = zipped_plugin(tmp_path)
    with zipfile.ZipFile(archive, "a") as file:
        for path in (tree / "accelerate").glob("**/*.py"):
            file.write(path, path.relative_to(tree))
    code = """
        import sys
        sys.frozen = True
        import accelerate
        print(list(accelerate.registry.backends()), accelerate.__file__)
        try:
            accelerate.load("model.npz", backend="nobody")
        except accelerate.BackendNotAvailableError as error:
            print(error.remedy)
    """
    said = new_environment().python(code, PYTHONPATH=str(archive)).splitlines()
    assert said[0] == f"['npz_affine'] {archive}/accelerate/__init__.py"
    assert "*.dist-info" in said[1]
