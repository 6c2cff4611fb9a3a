"""What a backend says before it loads: whether it can run here, on which devices, and why not."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ...api import list_backends, list_devices, load, plan
from ...errors import (
    BackendNotAvailableError,
    DeviceNotFoundError,
    ModelError,
    ModelNotFoundError,
    NoBackendError,
    OptionError,
)
from ...registry import find
from ...reports import LoadOptions
from ..inputs import random_inputs
from .cases import CaseTests
from .children import ask_child

__all__ = ["DecidingTests"]


class DecidingTests(CaseTests):
    """Availability, devices, the plan, and the loading of what it says."""

    #: Packages beside the standard library and those of the project that `match` may import: none that is a runtime.
    match_imports: ClassVar[frozenset[str]] = frozenset()

    def test_is_listed_as_available_with_a_device(self) -> None:
        info = list_backends()[self.backend]
        assert info.available, f"{info.reason}: {info.remedy}"
        assert info.description
        assert any(d.backend == self.backend and d.ready for d in list_devices()), "it lists no device that is ready"

    def test_plan_says_why(self) -> None:
        case = self.cases()["plain"]
        decided = plan(case.source, backend=self.backend, **case.options)
        assert decided.chosen is not None
        assert decided.chosen.backend == self.backend
        assert not decided.chosen.reason.startswith(";"), "match gives no reason"
        assert decided.chosen.reason in str(decided)

    def test_says_what_it_runs_on(self, opened: Any) -> None:
        model, _ = opened("plain")
        assert model.backend == self.backend
        assert model.runtime.name
        assert model.runtime.version
        assert model.device == model.runtime.device

    def test_every_device_that_is_ready_loads(self, opened: Any) -> None:
        case = self.cases()["plain"]
        options = {name: value for name, value in case.options.items() if name != "device"}
        decided = plan(case.source, backend=self.backend, **options)
        listed = [d for d in list_devices() if d.backend == self.backend]
        planned = [*(c.device for c in decided.candidates), *find(self.backend).named_devices(LoadOptions())]
        for device in (d for d in listed if d.ready):
            assert device.id in planned, f"{device.id} is ready, but in no plan"
            for word in (device.id, device.kind, *device.aliases):
                model, _ = opened("plain", device=word)
                inputs = random_inputs(model)
                self.check(case, inputs, model.infer(inputs))
            if device.kind != "server":  # which alone knows where its models run
                assert opened("plain", device=device.id)[0].device == device.id
        for device in (d for d in listed if not d.ready):
            assert device.reason
            with pytest.raises(DeviceNotFoundError) as caught:
                opened("plain", device=device.id)
            assert caught.value.reason == device.reason

    def test_unknown_device_is_an_error(self, opened: Any) -> None:
        with pytest.raises(DeviceNotFoundError, match="warp:9"):
            opened("plain", device="warp:9")

    def test_unknown_option_names_the_known_ones(self, opened: Any) -> None:
        with pytest.raises(OptionError, match="num_threads"):
            opened("plain", num_thread=1)

    @pytest.mark.parametrize("threads", [0, -1, 1.5, True])
    def test_impossible_num_threads(self, opened: Any, threads: Any) -> None:
        with pytest.raises(OptionError, match="num_threads"):
            opened("plain", num_threads=threads)

    def test_as_many_threads_as_asked_for(self, opened: Any) -> None:
        case = self.cases()["plain"]
        for threads in (1, 2):
            asked = {**case.options, "num_threads": threads}
            try:
                taken = plan(case.source, backend=self.backend, **asked).chosen is not None
            except OptionError:
                taken = False
            if not taken:
                pytest.skip(f"{self.backend} takes no num_threads")
            told = opened("plain", num_threads=threads)[0].runtime.details.get("num_threads")
            assert told == threads, "refuse num_threads in match, or tell it in RuntimeInfo.details"

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFoundError, match="nothing-here"):
            load(tmp_path / "nothing-here.model", backend=self.backend)

    def test_sniff_takes_its_own_files_alone(self) -> None:
        sniff = find(self.backend).sniff
        answers = {what: sniff(head) for what, head in _heads().items()}
        claimed = [what for what, kind in answers.items() if kind not in ("", what)]
        assert not claimed, (
            f"sniff takes {', '.join(claimed)} for its own: wanted '', for they may be another backend's"
        )

    def test_other_content_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "text.model").write_text("this is no model\n" * 10)
        assert plan(tmp_path / "text.model", backend=self.backend).chosen is None
        with pytest.raises((ModelError, NoBackendError, BackendNotAvailableError), match=r"text\.model"):
            load(tmp_path / "text.model", backend=self.backend)

    def test_a_judgement_imports_no_runtime(self, tmp_path: Path) -> None:
        (tmp_path / "text.model").write_text("this is no model\n" * 10)
        answer = ask_child("judge", self, "plain", tmp_path, other=str(tmp_path / "text.model"))
        assert answer["accepts"], answer
        stray = sorted(set(answer["imported"]) - self.match_imports)
        assert not stray, f"match has imported {', '.join(stray)}: a program that runs something else would pay for it"

    def test_a_damaged_file_is_a_typed_error(self, model_file: Callable[[str], Path], tmp_path: Path) -> None:
        answer = ask_child("damage", self, "plain", tmp_path, whole=str(model_file("plain")))
        assert len(answer) > 20
        wrong = [f"{what}: {told}" for what, told in answer.items() if told.startswith(("raised ", "accepted "))]
        assert not wrong, "\n".join(
            ("wanted a ModelError of match, describe and load; later an InferenceError, TensorError or answer", *wrong)
        )


def _heads() -> Mapping[str, bytes]:
    """Return how files begin that are of no format of a stranger's, by what they are."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("notes.txt", "this is no model\n")
    data = Path(__file__).parents[2] / "data"
    files = {"tflite": "digits_float.tflite", "onnx": "digits.onnx", "png": "digit.png"}
    heads = {what: (data / name).read_bytes() for what, name in files.items()}
    heads |= {"zip": archive.getvalue(), "nothing": b"", "text": b"this is no model\n" * 10}
    return {what: content[:4096] for what, content in heads.items()}
