"""Models out of a services file: Viam's own text, packages on this machine, and what is wrong in such files."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from triton_server import TritonServer, needs_triton, triton  # noqa: F401 - a fixture

import accelerate
from accelerate import AccelerateError, BackendNotAvailableError, ModelNotFoundError, OptionError, errors
from accelerate.services import load_arguments, load_service, load_services
from accelerate.services.file import ServicesFile, parse

DATA = Path(accelerate.__file__).parent / "data"
DIGITS, DIGITS_ONNX = DATA / "digits_uint8.tflite", DATA / "digits.onnx"
FRUITS = tuple(f"fruit {n}" for n in range(10))
WHERE = "service 's' in robot.json"

# The JSON of Viam's documentation (docs/services/ml, 2023), as it stands there: template, example, and a package.
TEMPLATE = """\
"services": [
  {
    "name": "<mlmodel_name>",
    "type": "mlmodel",
    "model": "tflite_cpu",
    "attributes": {
      "model_path": "${packages.ml_model.<model_name>}/<model-name>.tflite",
      "label_path": "${packages.ml_model.<model_name>}/labels.txt",
      "num_threads": <number>
    }
  },
  ... // Other services
]
"""
EXAMPLE = """\
"services": [
  {
    "name": "fruit_classifier",
    "type": "mlmodel",
    "model": "tflite_cpu",
    "attributes": {
      "model_path": "${packages.ml_model.my_fruit_model}/my_fruit_model.tflite",
      "label_path": "${packages.ml_model.my_fruit_model}/labels.txt",
      "num_threads": 1
    }
  }
]
"""
PACKAGE = """\
{
  "package": "<model_id>/allblack",
  "version": "YYYYMMDDHHMMSS",
  "name": "<model_name>",
  "type": "ml_model"
}
"""
FRUIT_PACKAGE = (
    PACKAGE.replace("<model_id>", "orchard")
    .replace("YYYYMMDDHHMMSS", "latest")
    .replace("<model_name>", "my_fruit_model")
)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of packages of a user who has none yet."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.delenv("EDGE_ACCELERATE_TRITON_URL", raising=False)
    return tmp_path / "home" / ".viam" / "packages"


def put(folder: Path, model: Path = DIGITS, labels: tuple[str, ...] = FRUITS) -> Path:
    """Put the package of the example into a folder."""
    folder.mkdir(parents=True)
    shutil.copy(model, folder / "my_fruit_model.tflite")
    (folder / "labels.txt").write_text("\n".join(labels))
    return folder


def write(folder: Path, text: str | object) -> Path:
    path = folder / "robot.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def service(name: str = "s", model: object = "tflite_cpu", **attributes: object) -> dict[str, Any]:
    return {"name": name, "type": "mlmodel", "model": model, "attributes": {"model_path": str(DIGITS), **attributes}}


def labels_of(path: Path, name: str = "fruit_classifier") -> tuple[str, ...]:
    with contextlib.ExitStack() as stack:
        models = {key: stack.enter_context(model) for key, model in load_services(path).items()}
        model = models[name]
        (tensor,) = model.metadata().inputs
        assert len(model.infer(np.zeros(tensor.shape, np.uint8))) == 1
        return model.metadata().labels


# What the documentation shows


@pytest.mark.parametrize("braces", [False, True])
def test_the_example_runs_as_it_stands_there(packages: Path, tmp_path: Path, braces: bool) -> None:
    put(packages / "my_fruit_model")
    path = write(tmp_path, f"{{{EXAMPLE}}}" if braces else EXAMPLE)
    with accelerate.load_services(path)["fruit_classifier"] as model:
        assert (model.backend, model.device, model.metadata().labels) == ("tflite_cpu", "cpu", FRUITS)


def test_the_template_names_each_place_that_is_not_filled_in(packages: Path, tmp_path: Path) -> None:
    path = write(tmp_path, TEMPLATE)
    with pytest.raises(OptionError) as caught:
        load_services(path)
    assert caught.value.reason == (
        f"service '<mlmodel_name>' in {path} (services[0]) is still to be filled in: <mlmodel_name> in name, "
        "<model_name> in model_path, <model-name> in model_path, <model_name> in label_path, <number> in num_threads"
    )
    assert "num_threads is a whole number from 1, such as 1" in caught.value.remedy


def test_the_template_once_it_is_filled_in(packages: Path, tmp_path: Path) -> None:
    put(packages / "my_fruit_model")
    filled = TEMPLATE.replace("<mlmodel_name>", "fruit_classifier").replace("<number>", "1")
    path = write(tmp_path, re.sub("<model.name>", "my_fruit_model", filled))
    assert labels_of(path) == FRUITS


def test_the_package_of_the_documentation_must_be_filled_in(packages: Path, tmp_path: Path) -> None:
    told = PACKAGE.replace("<model_name>", "my_fruit_model")
    for said, reason in ((told, "<model_id>/allblack"), (told.replace("<model_id>", "orchard"), "YYYYMMDDHHMMSS")):
        path = write(tmp_path, f'{EXAMPLE}, "packages": [{said}]')
        with pytest.raises(OptionError, match=rf"'fruit_classifier'.*model_path.*{reason}"):
            load_services(path)


def test_other_services_are_left_alone(packages: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    others = [
        {"name": "seer", "type": "vision", "model": "mlmodel", "attributes": {"mlmodel_name": "s"}},
        {"name": "s", "api": "rdk:service:vision", "model": "<model>", "attributes": {"x": "${packages.nobody}"}},
        {"name": "other", "type": "mlmodel", "model": "somebody:mlmodel:torch", "attributes": {"model_path": "x"}},
        {"nothing": True},
    ]
    path = write(tmp_path, {"services": [*others, service()], "components": [{"name": "cam"}], "modules": []})
    with caplog.at_level(logging.WARNING, "accelerate"):
        assert labels_of(path, "s")
    assert "'other'" in caplog.text
    assert list(load_names(path)) == ["s"]
    with pytest.raises(OptionError, match=r"'seer' of type 'vision'.*its model is s"):
        load_service(path, "seer")
    with pytest.raises(OptionError, match=r"'other'.*somebody:mlmodel:torch.*write one of tflite_cpu"):
        load_service(path, "other")


def load_names(path: Path) -> list[str]:
    return [one.name for one in ServicesFile(path).mlmodels()]


@pytest.mark.parametrize(
    ("kind", "model", "file", "backend"),
    [
        ({"type": "mlmodel"}, "tflite_cpu", DIGITS, "tflite_cpu"),
        ({"type": "mlmodel"}, "rdk:builtin:tflite_cpu", DIGITS, "tflite_cpu"),
        ({"api": "rdk:service:mlmodel"}, "viam:mlmodel-tflite:tflite_cpu", DIGITS, "tflite_cpu"),
        ({"namespace": "rdk", "type": "mlmodel"}, "edge-accelerate:mlmodel:tflite_cpu", DIGITS, "tflite_cpu"),
        ({"api": "rdk:service:mlmodel"}, "edge-accelerate:mlmodel:auto", DIGITS, "tflite_cpu"),
        ({"api": "rdk:service:mlmodel"}, "viam:mlmodel:onnx-cpu", DIGITS_ONNX, "onnxruntime"),
        ({"api": "rdk:service:mlmodel"}, "edge-accelerate:mlmodel:onnxruntime", DIGITS_ONNX, "onnxruntime"),
    ],
)
def test_forms_of_an_entry(
    kind: dict[str, str], model: str, file: Path, backend: str, packages: Path, tmp_path: Path
) -> None:
    if backend == "onnxruntime":
        pytest.importorskip("onnxruntime")
    attributes = {"model_path": str(file), "package_reference": "orchard/fruit", "label_path": "", "num_threads": 2.0}
    path = write(tmp_path, {"services": [{"name": "s", **kind, "model": model, "attributes": attributes}]})
    with load_services(path)["s"] as loaded:
        assert (loaded.backend, loaded.device) == (backend, "cpu")


def test_the_page(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "viam.md").read_text("utf-8")
    section = page[page.index("## The services file") :]
    (shown,), (code,) = (
        re.findall(rf"^```{kind}\n(.*?)^```$", section, re.M | re.S)[:1] for kind in ("json", "python")
    )
    put(packages / "data" / "ml_model" / "orchard-my_fruit_model-20231004123310")
    monkeypatch.chdir(tmp_path)
    write(tmp_path, shown)
    said: dict[str, Any] = {"accelerate": accelerate, "picture": np.zeros((8, 8), np.uint8)}
    exec(code, said)
    assert list(said["models"]) == ["fruit_classifier"]


# Attributes


def test_attributes_become_arguments_of_load() -> None:
    source, arguments = load_arguments(
        "edge-accelerate:mlmodel:tflite_cpu",
        {
            "model_path": str(DIGITS),
            "num_threads": 2.0,
            "replicas": 2.0,
            "shapes": {"image": [1.0, 8.0, 8.0, 1.0]},
            "normalization": {"mean": 127.5, "std": 127.0},
            "tensor_name_remappings": {"inputs": {"image": "picture"}, "outputs": {}},
            "device": None,
            "dequantize": True,
        },
        WHERE,
    )
    assert source == str(DIGITS)
    assert arguments == {
        "backend": "tflite_cpu",
        "num_threads": 2,
        "replicas": 2,
        "shapes": {"image": [1, 8, 8, 1]},
        "normalization": [127.5, 127],
        "tensor_names": {"inputs": {"image": "picture"}, "outputs": {}},
        "dequantize": True,
    }
    assert all(type(arguments[name]) is int for name in ("num_threads", "replicas"))


def test_onnx_cpu_means_the_cpu_unless_an_attribute_says_otherwise() -> None:
    def of(**attributes: object) -> dict[str, Any]:
        return load_arguments("viam:mlmodel:onnx-cpu", {"model_path": str(DIGITS_ONNX), **attributes}, WHERE)[1]

    assert of() == {"backend": "onnxruntime", "device": "cpu"}
    assert of(device="gpu") == {"backend": "onnxruntime", "device": "gpu"}
    assert of(providers=["A"]) == {"backend": "onnxruntime", "providers": ["A"]}


@pytest.mark.parametrize("number", [0, -1, 2.5, "4", "<number>", True, [1], 1e300, -0.0])
def test_threads_that_are_no_count(number: object) -> None:
    with pytest.raises(OptionError, match=rf"^{WHERE}: num_threads is .*wanted a whole number from 1"):
        load_arguments("tflite_cpu", {"model_path": str(DIGITS), "num_threads": number}, WHERE)


@pytest.mark.parametrize(
    ("model", "attributes", "said"),
    [
        ("tflite_cpu", {"model_path": None}, "there is no model_path; write"),
        ("tflite_cpu", {"model_path": ""}, "model_path is ''; write"),
        ("tflite_cpu", {"model_path": 3}, "model_path is 3; write"),
        ("tflite_cpu", {"num_thread": 1}, "no attribute 'num_thread' (did you mean 'num_threads'?); tflite_cpu knows "),
        ("tflite_cpu", {"url": "host:8001"}, "no attribute 'url'"),
        ("tflite_cpu", {"source": "x"}, "no attribute 'source'"),
        ("tflite_cpu", {"backend": "onnxruntime"}, "backend is said by the model, 'tflite_cpu'"),
        ("tflite_cpu", {"label_path": 3}, "label_path is 3; wanted a path"),
        ("tflite_cpu", {"label_path": "/no/labels.txt"}, "label_path is '/no/labels.txt', and there is no such file"),
        ("tflite_cpu", {"tensor_name_remappings": ["a"]}, "tensor_name_remappings is ['a']; write"),
        ("tflite_cpu", {"tensor_name_remappings": {}, "tensor_names": {}}, "say the same; leave one out"),
        ("tflite_cpu", {"shapes": json.loads("[" * 40 + "]" * 40)}, "shapes has more than 32 levels"),
        ("tflite_cpp", {}, "the model is 'tflite_cpp' (did you mean 'tflite_cpu'?); write one of tflite_cpu, "),
    ],
)
def test_attributes_that_are_wrong(model: str, attributes: dict[str, object], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        load_arguments(model, {"model_path": str(DIGITS), **attributes}, WHERE)
    assert str(caught.value).startswith(f"{WHERE}: ")
    assert said in str(caught.value)


def test_a_backend_that_is_not_there() -> None:
    with pytest.raises(BackendNotAvailableError, match=rf"^{WHERE}: there is no backend 'tpu_cpu'.*tflite_cpu"):
        load_arguments("edge-accelerate:mlmodel:tpu_cpu", {"model_path": str(DIGITS)}, WHERE)


def test_every_error_can_be_told_of_a_service() -> None:
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, AccelerateError)]
    plan = accelerate.plan(DIGITS)
    for kind in kinds:
        error = kind("reason", plan, "remedy") if kind is accelerate.NoBackendError else kind("reason", "remedy")
        for said in (error.about(WHERE), pickle.loads(pickle.dumps(error.about(WHERE)))):
            assert (type(said), str(said)) == (kind, f"{WHERE}: reason; remedy")
        assert str(error) == "reason; remedy"


def test_an_order_of_backends_belongs_to_auto() -> None:
    given = {"model_path": str(DIGITS), "backend": ["edgetpu", "tflite_cpu"], "url": "host:1"}
    assert load_arguments("edge-accelerate:mlmodel:auto", given, WHERE)[1] == {
        "backend": ["edgetpu", "tflite_cpu"],
        "url": "host:1",
    }


def test_a_model_that_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    shutil.copy(DIGITS, tmp_path / "digits.tflite")
    with pytest.raises(ModelNotFoundError) as caught:
        load_arguments("tflite_cpu", {"model_path": str(tmp_path / "digit.tflite")}, WHERE)
    for said in (WHERE, "model_path is", "there is digits.tflite", "did you mean 'digits.tflite'"):
        assert said in str(caught.value)
    with pytest.raises(ModelNotFoundError, match="there is no folder '/no/where'"):
        load_arguments("tflite_cpu", {"model_path": "/no/where/x.tflite"}, WHERE)
    with pytest.raises(ModelNotFoundError):
        load_arguments("tflite_cpu", {"model_path": "a\0b"}, WHERE)


def test_what_load_refuses_has_the_name_of_the_service(tmp_path: Path) -> None:
    path = write(tmp_path, {"services": [service(device="tpu")]})
    with pytest.raises(accelerate.DeviceNotFoundError, match=rf"^service 's' in {re.escape(str(path))}: "):
        load_services(path)
    path = write(tmp_path, {"services": [service(num_threads=2000)]})
    with pytest.raises(OptionError, match=rf"^service 's' in {re.escape(str(path))}: num_threads is 2000"):
        load_services(path)


def test_those_before_one_that_fails_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[accelerate.Model] = []

    def keep(*arguments: Any, **named: Any) -> accelerate.Model:
        loaded.append(accelerate.load(*arguments, **named))
        return loaded[-1]

    monkeypatch.setattr("accelerate.services.load", keep)
    (tmp_path / "broken.tflite").write_bytes(DIGITS.read_bytes()[:2000])
    broken = service("c", model_path=str(tmp_path / "broken.tflite"))
    path = write(tmp_path, {"services": [service("a"), service("b"), broken, service("d")]})
    with pytest.raises(accelerate.ModelError, match=r"^service 'c' in "):
        load_services(path)
    assert len(loaded) == 2
    for model in loaded:
        with pytest.raises(accelerate.ClosedError):
            model.infer(np.zeros((1, 8, 8, 1), np.uint8))
    load_service(path, "d").close()


# Packages and environment variables

IN_PACKAGE = "${packages.ml_model.my_fruit_model}"


def machine(path: str = IN_PACKAGE, **package: object) -> dict[str, Any]:
    entry = {"package": "orchard/fruit", "version": "latest", "name": "my_fruit_model", "type": "ml_model", **package}
    attributes = {"model_path": f"{path}/my_fruit_model.tflite", "label_path": f"{path}/labels.txt"}
    return {
        "services": [{"name": "fruit_classifier", "type": "mlmodel", "model": "tflite_cpu", "attributes": attributes}],
        "packages": [{key: value for key, value in entry.items() if value is not None}],
    }


@pytest.mark.parametrize("placeholder", [IN_PACKAGE, "${packages.my_fruit_model}"])
@pytest.mark.parametrize(
    ("folder", "version"),
    [
        ("my_fruit_model", "2023.1"),
        ("my_fruit_model", "latest"),
        ("data/ml_model/orchard-fruit-2023_1", "2023.1"),
        ("data/ml_model/orchard-fruit-20231004123310", "20231004123310"),
        ("data/ml_model/orchard-fruit-20231004123310", "latest"),
    ],
)
def test_where_packages_are(placeholder: str, folder: str, version: str, packages: Path, tmp_path: Path) -> None:
    put(packages / folder)
    assert labels_of(write(tmp_path, machine(placeholder, version=version))) == FRUITS


def test_as_it_is_goes_before_as_it_was_documented(packages: Path, tmp_path: Path) -> None:
    put(packages / "my_fruit_model", labels=tuple("abcdefghij"))
    put(packages / "data" / "ml_model" / "orchard-fruit-1_0_0")
    assert labels_of(write(tmp_path, machine(version="1.0.0"))) == FRUITS


@pytest.mark.parametrize(
    ("versions", "newest"),
    [
        (["20231004123310", "20240101000000", "20231231235959"], "20240101000000"),
        (["2023-10-04T12-33-10", "20230101000000"], "2023-10-04T12-33-10"),
        (["1_9_0", "1_10_0", "1_10_0-rc1"], "1_10_0"),
        (["9", "10"], "10"),
        # packages of the names fruit-big and fruit-2, and what is no version
        (["1_0_0", "big-20240101000000", "2-20240101000000", "20250101000000.zip", "tmp"], "1_0_0"),
    ],
)
def test_latest_is_the_newest_one_here(versions: list[str], newest: str, packages: Path, tmp_path: Path) -> None:
    for version in versions:
        put(packages / "data" / "ml_model" / f"orchard-fruit-{version}", labels=(version, *FRUITS[1:]))
    (packages / "data" / "ml_model" / "orchard-fruit-99999999999999").write_text("a file")
    assert labels_of(write(tmp_path, machine()))[0] == newest


def test_a_running_program_keeps_its_model(packages: Path, tmp_path: Path) -> None:
    folder = packages / "data" / "ml_model"
    old = put(folder / "orchard-fruit-20230101000000", labels=("old", *FRUITS[1:]))
    path = write(tmp_path, machine())
    with load_services(path)["fruit_classifier"] as model:
        zeros = np.zeros(model.metadata().inputs[0].shape, np.uint8)
        (before,) = model.infer(zeros).values()
        put(folder / "orchard-fruit-20240101000000", labels=("new", *FRUITS[1:]))
        assert labels_of(path)[0] == "new"
        shutil.rmtree(old)
        (after,) = model.infer(zeros).values()
        assert np.array_equal(before, after)
        assert model.metadata().labels[0] == "old"


@pytest.mark.parametrize(
    ("path", "package", "said"),
    [
        ("${packages.ml_model.other}", {}, "no package 'other' among the packages of the file"),
        ("${packages.ml_model.my_fruit_mode}", {}, "did you mean 'my_fruit_model'?"),
        (
            "${package.my_fruit_model}",
            {},
            "unknown placeholder '${package.my_fruit_model}'; known: ${packages.ml_model.",
        ),
        ("${packages.ml_model.}", {}, "unknown placeholder"),
        ("${packages.ml_model.a b}", {}, "unknown placeholder"),
        ("${}", {}, "unknown placeholder"),
        ("${packages.my_fruit_model", {}, "a placeholder without its end; write the '}'"),
        ("${environment.NOT_SET_ANYWHERE}", {}, "no environment variable 'NOT_SET_ANYWHERE'; set it"),
        (
            "${packages.module.my_fruit_model}",
            {},
            "looks for a package of type 'module', and 'my_fruit_model' is of type 'ml_model'; write "
            "${packages.ml_model.my_fruit_model}",
        ),
        (IN_PACKAGE, {"type": "module"}, "is of type 'module'; write ${packages.module.my_fruit_model}"),
        (IN_PACKAGE, {"type": 3}, "is of type 3"),
        (IN_PACKAGE, {"package": "../../etc"}, "is '../../etc', which could lead out of"),
        (IN_PACKAGE, {"package": "/etc/fruit"}, "is '/etc/fruit', which could lead out of"),
        (IN_PACKAGE, {"package": "a//b"}, "which could lead out of"),
        (IN_PACKAGE, {"package": "a\\..\\b"}, "which could lead out of"),
        (IN_PACKAGE, {"package": "a\0b"}, "which could lead out of"),
        (IN_PACKAGE, {"version": ".."}, "the version of 'my_fruit_model' is '..', which could lead out of"),
        (IN_PACKAGE, {"version": "1/../../2"}, "which could lead out of"),
        (IN_PACKAGE, {"version": "/1"}, "which could lead out of"),
        (IN_PACKAGE, {"version": "1/2"}, "which could lead out of"),
        (IN_PACKAGE, {"version": 20231004123310}, "has version 20231004123310; wanted a text"),
        (IN_PACKAGE, {"version": None}, 'has no version; wanted a text; write "version": such as "latest"'),
        (IN_PACKAGE, {"package": ""}, "has package ''; wanted a text"),
        (IN_PACKAGE, {"version": "newest"}, "has the version 'newest'; write the version that it has"),
        ("${packages./etc.my_fruit_model}", {"type": "/etc"}, "the package's type is '/etc', which could lead out"),
        ("${packages.ml_model./etc}", {"name": "/etc"}, "the package's name is '/etc', which could lead out of"),
    ],
)
def test_placeholders_that_lead_nowhere(
    path: str, package: dict[str, object], said: str, packages: Path, tmp_path: Path
) -> None:
    file = write(tmp_path, machine(path, **package))
    with pytest.raises(OptionError) as caught:
        load_services(file)
    assert str(caught.value).startswith(f"service 'fruit_classifier' in {file}: model_path has {path[:20]}"[:-20])
    assert "model_path" in str(caught.value)
    assert said in str(caught.value)


def test_a_package_that_is_not_on_this_machine(packages: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        load_services(write(tmp_path, machine()))
    for said in ("'fruit_classifier'", "model_path", "orchard-fruit-VERSION", str(packages / "my_fruit_model"), "HOME"):
        assert said in str(caught.value)
    put(packages / "data" / "ml_model" / "orchard-fruit-20240101000000")
    with pytest.raises(ModelNotFoundError, match=r'there is version 20240101000000: write one of these, or "latest"'):
        load_services(write(tmp_path, machine(version="20230101000000")))


@pytest.mark.parametrize("entries", [{"name": "x"}, ["x"], "x"])
def test_packages_that_are_no_list_of_objects(entries: object, packages: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="wanted a list of objects"):
        load_services(write(tmp_path, {**machine(), "packages": entries}))
    load_services(write(tmp_path, {"services": [service()], "packages": entries}))["s"].close()


def test_two_packages_of_one_name(packages: Path, tmp_path: Path) -> None:
    said = machine()
    with pytest.raises(OptionError, match="2 packages have this name"):
        load_services(write(tmp_path, {**said, "packages": said["packages"] * 2}))


def test_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUITS", str(DATA))
    monkeypatch.setenv("KIND", "${environment.FRUITS}")
    path = write(tmp_path, {"services": [service(model_path="${environment.FRUITS}/digits_uint8.tflite")]})
    load_services(path)["s"].close()
    with pytest.raises(ModelNotFoundError, match=r"\$\{environment\.FRUITS\}"):  # what a value says is not read again
        load_services(write(tmp_path, {"services": [service(model_path="${environment.KIND}/x")]}))


# The file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no JSON"),
        ("services", "is no JSON"),
        ('{"services": [}', "is no JSON: Expecting value: line 1 column"),
        ('"services": [{"name": "a]', "is no JSON"),
        ('{"services": [1e', "is no JSON"),
        ('{"services": NaN}', "NaN is no number of JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "has no services, but []"),
        ("3", "has no services, but 3"),
        ("{}", "has no services, but {}"),
        ('{"service": [], "packages": []}', "has no services, but the keys 'service', 'packages'"),
        ('{"services": {}}', "has services {}; wanted a list"),
        ('{"services": null}', "has services None; wanted a list"),
        ('{"services": ["s"]}', "has 's' as services[0]; wanted an object"),
        ('{"services": [], "services": []}', "has the key 'services' twice"),
        (f"{EXAMPLE}, {EXAMPLE}", "has the key 'services' twice"),
        ('{"services": [{"type": "mlmodel", "model": "tflite_cpu"}]}', "services[0] in {} has no name"),
        ('{"services": [{"name": 3, "type": "mlmodel", "model": "tflite_cpu"}]}', "services[0] in {} has the name 3"),
        ('{"services": [{"name": "s", "type": "mlmodel"}]}', "service 's' in {} has no model; write"),
        ('{"services": [{"name": "s", "type": "mlmodel", "model": 3}]}', "has the model 3; write"),
        ('{"services": [{"name": "s", "type": "mlmodel", "model": "tflite"}]}', "did you mean 'tflite_cpu'?"),
        ('{"services": [{"name": "s", "type": "mlmodel", "model": "<model>"}]}', "<model> in model"),
        ('{"services": [{"name": "s", "model": "tflite_cpu"}]}', "service 's' in {} has no type; of model"),
        ('{"services": [{"name": "s", "type": "ml", "model": "tflite_cpu"}]}', "has the type 'ml'; of model"),
        ('{"services": [{"name": "s", "type": "mlmodel", "model": "tflite_cpu"}]}', "there is no model_path; write"),
        (
            '{"services": [{"name": "s", "type": "mlmodel", "model": "tflite_cpu", "attributes": []}]}',
            "service 's' in {} has attributes []; wanted an object",
        ),
        (
            '{"services": [{"name": "s", "type": "mlmodel", "model": "tflite_cpu", "attributes": {"x": '
            + "[" * 40 + "]" * 40 + "}}]}",
            "x has more than 32 levels",
        ),
    ],
)  # fmt: skip
def test_files_that_are_wrong(text: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(OptionError) as caught:
        load_services(path)
    assert said.replace("{}", str(path), "in {}" in said) in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_services_of_one_name(tmp_path: Path) -> None:
    path = write(tmp_path, {"services": [service("twin"), service("s"), service("twin")]})
    with pytest.raises(OptionError, match="2 services of the name 'twin'; give each another name"):
        load_services(path)
    with pytest.raises(OptionError, match="2 services of the name 'twin'"):
        load_service(path, "twin")
    load_service(path, "s").close()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no services file .*nothing\.json; check the path"):
        load_services(tmp_path / "nothing.json")
    with pytest.raises(OptionError, match="is no file"):
        load_services(tmp_path)
    with pytest.raises(OptionError, match="wanted the path of a JSON file"):
        load_services({"services": []})  # type: ignore[arg-type]
    with pytest.raises(OptionError):
        load_services("a\0b")
    (tmp_path / "robot.json").write_bytes('{"services": []}'.encode("utf-16"))
    with pytest.raises(OptionError, match="no text in UTF-8"):
        load_services(tmp_path / "robot.json")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(OptionError, match="has more than 4 MiB"):
        load_services(tmp_path / "large.json")
    (tmp_path / "robot.json").write_bytes(b'\xef\xbb\xbf{"services": []}')
    assert load_services(str(tmp_path / "robot.json")) == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this platform")
def test_a_pipe_is_no_services_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(OptionError, match="is no file"):
        load_services(tmp_path / "pipe.json")


def test_comments_and_what_is_left_out() -> None:
    assert parse('"a": [1, // one\n 2, ... // and so on\n], "b": "x // y ... <z>, ]",\n') == {
        "a": [1, 2],
        "b": "x // y ... <z>, ]",
    }
    assert parse('{"a": [1, ..., 3, …], "b": <number>,}') == {"a": [1, 3], "b": "<number>"}
    assert parse('{"a": "\\"", "b": "\\\\"}') == {"a": '"', "b": "\\"}


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.sampled_from([None, 1]),
)
@example({"a": "//"}, None)
@example({"<a>": ",]"}, 1)
def test_json_is_read_as_json(value: object, indent: int | None) -> None:
    value = {"services": value}
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    assert parse(text) == json.loads(text) == parse(text[1:-1])


@settings(deadline=None)
@given(st.text(alphabet='{}[]",:<>./\\$ \n01aeE-…\ufeff') | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError, RecursionError):
        parse(text)


def test_reading_takes_time_in_proportion() -> None:
    for text in ('"\\' * 500_000, "<" * 1_000_000, "..., " * 200_000, "// " * 300_000, '"a" , ' * 100_000):
        with contextlib.suppress(ValueError, RecursionError):
            parse(text)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.text(max_size=30) | st.from_regex(r"(packages|environment)(\.[\w./:-]{0,12}){0,3}", fullmatch=True),
    package=st.text(max_size=12) | st.sampled_from(["..", "a/../..", "/etc", "a/b", "org/name"]),
    version=st.text(max_size=12) | st.sampled_from(["..", "latest", "1.0", "/", "../1"]),
    name=st.text(max_size=12) | st.sampled_from(["..", "a/..", "/etc", "n"]),
)
def test_no_package_is_outside_of_the_folder(
    key: str, package: str, version: str, name: str, packages: Path, tmp_path: Path
) -> None:
    entries = [{"package": package, "version": version, "name": name, "type": "ml_model"}]
    for asked in (key, f"packages.{name}"):
        said = {"services": [service(model_path=f"${{{asked}}}/m", label_path="")], "packages": entries}
        file = write(tmp_path, said)
        with contextlib.suppress(OptionError, ModelNotFoundError):
            (found,) = ServicesFile(file).mlmodels()
            assert asked.startswith("environment.") or packages in Path(found.attributes["model_path"]).parents


# A server


@pytest.fixture
def repository(packages: Path, tmp_path: Path) -> Path:
    for version, file in (("1", DIGITS_ONNX), ("3", DIGITS_ONNX), ("10", DIGITS)):
        folder = tmp_path / "models" / "digits" / version
        folder.mkdir(parents=True)
        shutil.copy(file, folder / f"model{file.suffix}")
    return tmp_path / "models"


def served(**attributes: object) -> tuple[Any, dict[str, Any]]:
    arguments = [load_arguments(f"{model}:triton", attributes, WHERE) for model in ("viam:mlmodelservice", OURS)]
    assert arguments[0] == arguments[1]
    return arguments[0]


OURS = "edge-accelerate:mlmodel"


def test_a_model_on_a_server(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served(url="host:8001", model_name="a b/c", model_version=3.0) == (
        "triton://host:8001/a%20b%2Fc/3",
        {"backend": "triton"},
    )
    assert served(url="tritons://host", model_name="m", model_version=-1.0)[0] == "tritons://host/m"
    assert served(model_path="triton://host:8001/m/2") == ("triton://host:8001/m/2", {"backend": "triton"})
    names = {"inputs": {"a": "b"}}
    assert served(url="h", model_name="m", tensor_name_remappings=names)[1]["tensor_names"] == names
    monkeypatch.setenv("EDGE_ACCELERATE_TRITON_URL", "other:1")
    assert served(model_name="m")[0] == "triton://other:1/m"


def test_a_model_that_is_shipped(repository: Path) -> None:
    url = "host:8001"
    shipped = {"backend": "triton", "url": url}
    digits = repository / "digits"
    assert served(url=url, model_path=str(DIGITS)) == (str(DIGITS), shipped)
    assert served(url=url, model_name="m", model_path=str(digits / "3"))[0] == str(digits / "3" / "model.onnx")
    of = {"url": url, "model_name": "digits", "model_repository_path": str(repository)}
    assert served(**of) == (str(digits / "10" / "model.tflite"), shipped)
    assert served(**of, model_version=3) == (str(digits / "3" / "model.onnx"), shipped)


@pytest.mark.parametrize(
    ("attributes", "device"),
    [
        ({"preferred_input_memory_type": "cpu"}, "cpu"),
        ({"preferred_input_memory_type": "cpu-pinned", "preferred_input_memory_type_id": 0.0}, "cpu"),
        ({"preferred_input_memory_type": "gpu", "device": "gpu"}, "gpu"),
        ({"model_config": {"instance_group": [{"kind": "KIND_GPU", "count": 1.0}]}}, "gpu"),
        ({"model_config": {"instance_group": [{"kind": "KIND_AUTO"}]}}, None),
        ({"model_config": {}}, None),
        ({"device": "cpu"}, "cpu"),
    ],
)
def test_cpu_or_gpu_of_the_server(attributes: dict[str, object], device: str | None, packages: Path) -> None:
    assert served(url="h", model_name="m", **attributes)[1].get("device") == device


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({}, "there is no url.*edge-accelerate sidecar run --repository DIR"),
        ({"model_name": "m"}, "there is no url.*edge-accelerate sidecar run --repository DIR"),
        ({"url": "h"}, "there is no model_name"),
        ({"url": "h", "model_name": ""}, "model_name is ''"),
        ({"url": "h", "model_name": 3}, "model_name is 3"),
        ({"url": "h/m", "model_name": "m"}, "url is no server without a model"),
        ({"url": 3, "model_name": "m"}, "url is no server without a model"),
        ({"url": "h", "model_name": "m", "model_version": 0}, "model_version is 0; wanted a whole number from 1"),
        ({"url": "h", "model_name": "m", "model_version": 1.5}, "model_version is 1.5"),
        ({"url": "h", "model_name": "m", "model_version": "1"}, "model_version is '1'"),
        ({"url": "h", "model_path": "a", "model_repository_path": "b"}, "leave one out"),
        ({"url": "h", "model_name": "m", "preferred_input_memory_type": "tpu"}, "wanted one of cpu, cpu-pinned, gpu"),
        ({"url": "h", "model_name": "m", "preferred_input_memory_type_id": 1}, "which GPU"),
        ({"url": "h", "model_name": "m", "preferred_input_memory_type": "cpu", "device": "gpu"}, "device is 'gpu'"),
        ({"url": "h", "model_name": "m", "backend_directory": "/opt"}, "sidecar run .*--backend-directory"),
        ({"url": "h", "model_name": "m", "model_config": 3}, "model_config is 3; wanted an object"),
        ({"url": "h", "model_name": "m", "model_config": {"dynamic_batching": {}}}, "'dynamic_batching'.*config.pbtxt"),
        ({"url": "h", "model_path": "x", "model_config": {"instance_group": [{"count": 2}]}}, "cannot be shipped"),
        ({"url": "h", "model_name": "m", "model_repository": "x"}, "did you mean 'model_repository_path'"),
        ({"url": "h", "model_name": "../m", "model_repository_path": "/x"}, "wanted the name of a folder"),
        ({"url": "h", "model_name": "m", "num_threads": 0}, "num_threads is 0"),
    ],
)
def test_attributes_of_a_server_that_are_wrong(attributes: dict[str, object], said: str, packages: Path) -> None:
    with pytest.raises(OptionError, match=rf"^{WHERE}: .*{said}"):
        served(**attributes)


def test_what_a_repository_does_not_have(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    of = {"url": "host:8001", "model_repository_path": str(repository)}
    with pytest.raises(ModelNotFoundError, match="has no model 'digit': there is digits"):
        served(**of, model_name="digit")
    with pytest.raises(ModelNotFoundError, match="has no version 2: there is 1, 3, 10; correct model_version"):
        served(**of, model_name="digits", model_version=2)
    (repository / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match="has no version: there is nothing; put the model into a folder 1"):
        served(**of, model_name="empty")
    (repository / "saved" / "1" / "model.savedmodel").mkdir(parents=True)
    with pytest.raises(OptionError, match=r"holds a SavedModel, which cannot be shipped.*sidecar run --repository DIR"):
        served(**of, model_name="saved")
    with pytest.raises(ModelNotFoundError, match="there is no such folder"):
        served(url="h", model_name="m", model_repository_path="/no/where")
    (repository / "digits" / "config.pbtxt").write_text("max_batch_size: 8")
    with caplog.at_level(logging.WARNING, "accelerate"):
        served(**of, model_name="digits")
    assert "config.pbtxt is not shipped with model.tflite" in caplog.text


@needs_triton
def test_services_on_a_real_server(triton: TritonServer, repository: Path, tmp_path: Path) -> None:  # noqa: F811
    model = "viam:mlmodelservice:triton"
    there = {"url": triton.url, "model_name": "versions", "model_version": 3}
    from_repository = {"url": triton.url, "model_name": "digits", "model_repository_path": str(repository)}
    triton.load("versions")
    entries = [
        {"name": "there", "api": "rdk:service:mlmodel", "model": model, "attributes": there},
        {"name": "shipped", "api": "rdk:service:mlmodel", "model": model, "attributes": from_repository},
    ]
    models = load_services(write(tmp_path, {"services": entries}))
    with models["there"], models["shipped"], accelerate.load(DIGITS, backend="tflite_cpu") as here:
        assert models["there"].infer([2.0])["y"].tolist() == [6.0]
        picture = np.arange(np.prod(here.metadata().inputs[0].shape), dtype=np.uint8)
        (wanted,), (got,) = (m.infer(picture).values() for m in (here, models["shipped"]))
        assert np.array_equal(wanted, got)


# The package and the command


def test_it_is_imported_when_it_is_named() -> None:
    code = (
        "import accelerate, sys\n"
        "assert not {'accelerate.services', 'json'} & set(sys.modules)\n"
        "from accelerate import *\n"
        "assert load_services is accelerate.load_services is accelerate.services.load_services\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def run(*arguments: object, status: int = 0, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "accelerate", "run", *map(str, arguments), str(DATA / "digit.png")],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        cwd=cwd,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.fixture
def robot(packages: Path, tmp_path: Path) -> Path:
    pytest.importorskip("click", reason="needs the extra: cli")
    pytest.importorskip("rich", reason="needs the extra: cli")
    pytest.importorskip("PIL", reason="needs the extra: cli")
    put(packages / "my_fruit_model")
    others = [
        service("broken", model_path="/no/where"),
        service("unfilled", num_threads="<number>"),
        service("odd", x=1),
    ]
    said = {**parse(EXAMPLE), "packages": [parse(FRUIT_PACKAGE)]}
    write(tmp_path, {**said, "services": [*others, *said["services"]]})
    return tmp_path


def test_run_takes_one_service_of_a_file(robot: Path) -> None:
    said = json.loads(run("robot.json:fruit_classifier", "--json", cwd=robot))
    assert (said["model"], said["backend"]) == ("robot.json:fruit_classifier", "tflite_cpu")
    assert said["results"][0]["label"] == "fruit 7"


def test_options_of_run_replace_attributes(robot: Path) -> None:
    (robot / "other.txt").write_text("\n".join(f"other {n}" for n in range(10)))
    options = (
        "--labels",
        "other.txt",
        "--threads",
        2,
        "--backend",
        "auto",
        "--device",
        "cpu",
        "--option",
        "replicas=2",
    )
    said = json.loads(run("robot.json:fruit_classifier", "--json", *options, cwd=robot))
    assert said["results"][0]["label"] == "other 7"
    assert "not an ONNX model" in run("robot.json:fruit_classifier", "--backend", "onnxruntime", status=1, cwd=robot)
    wrong = run("robot.json:fruit_classifier", "--option", "name=1", status=1, cwd=robot)
    assert "service 'fruit_classifier' in robot.json: there is no attribute 'name'" in wrong
    run("robot.json:odd", status=1, cwd=robot)


def test_run_says_what_is_wrong_with_a_service(robot: Path) -> None:
    said = run("robot.json:fruit_clasifier", status=1, cwd=robot)
    assert "did you mean 'fruit_classifier'" in said
    assert "no services file nothing.json" in run("nothing.json:fruit", status=1, cwd=robot)
    assert "still to be filled in" in run("robot.json:unfilled", status=1, cwd=robot)
    assert "model_path is '/no/where'" in run("robot.json:broken", status=1, cwd=robot)


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_a_file_with_the_whole_name_goes_first(robot: Path) -> None:
    shutil.copy(DIGITS, robot / "robot.json:fruit_classifier")
    said = json.loads(run("robot.json:fruit_classifier", "--json", cwd=robot))
    assert said["results"][0]["label"] != "fruit 7"
