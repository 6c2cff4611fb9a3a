"""The measuring itself, on simulated latencies and on the project's own model. None asserts how long anything takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
from declaring import declare

import accelerate
from accelerate.bench import machine, rows, runner, turns
from accelerate.bench.agreement import are_twins, compare_answers, feeds_from, random_answers, random_real_inputs
from accelerate.bench.gates import Gate, compare_reports, differences, judge, read_report
from accelerate.bench.report_text import comparison, name
from accelerate.bench.statistics import compared_interval, disagreement, interval, summarize, thin
from accelerate.bench.timing import at_rate, calls_within, is_steady, measure_phases, own_cost_us, sample, throughput
from accelerate.errors import InferenceError, ModelError, OptionError

pytest.importorskip("ai_edge_litert", reason="needs LiteRT")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

DATA = Path(accelerate.__file__).parent / "data"
DIGITS, TWIN = str(DATA / "digits_uint8.tflite"), str(DATA / "digits.onnx")
#: Of those that may be here.
BACKENDS = ("tflite_cpu", "onnxruntime")
QUICK = runner.Settings(seconds=0.6, callers=(1, 2))


# Percentiles


@pytest.mark.parametrize(
    ("calls", "given"),
    [
        (1, {"p50"}),
        (5, {"p50"}),
        (20, {"p50", "p90", "p95"}),
        (99, {"p50", "p90", "p95"}),
        (100, {"p50", "p90", "p95", "p99"}),
        (999, {"p50", "p90", "p95", "p99"}),
        (1000, {"p50", "p90", "p95", "p99", "p99.9"}),
    ],
)
def test_percentiles_need_enough_calls(calls: int, given: set[str]) -> None:
    figures = summarize(np.arange(calls))
    assert {name for name in figures if name.startswith("p")} == given
    assert figures["n"] == calls
    assert (figures["min"], figures["max"]) == (0, calls - 1)
    assert figures["p50"] == np.percentile(np.arange(calls), 50)


def test_what_is_kept_of_a_round_is_spread_over_it() -> None:
    kept = thin(np.arange(1000))
    assert kept == list(range(0, 1000, 10))
    assert thin(np.arange(3)) == [0, 1, 2]


def test_steady_is_three_windows_within_5_percent() -> None:
    assert not is_steady([1.0, 1.0])
    assert is_steady([9.0, 1.0, 1.04, 1.02])
    assert not is_steady([1.0, 1.0, 1.06])


def test_halves_that_differ() -> None:
    equal = [np.full(10, 100.0)] * 10
    assert disagreement(equal) == 0
    assert disagreement([*equal, *([np.full(10, 110.0)] * 10)]) == pytest.approx(0.1)


def test_sample_measures_each_call() -> None:
    given: list[object] = []
    taken = sample(given.append, "x", 50)
    assert given == ["x"] * 50
    assert taken.shape == (50,)
    assert (taken >= 0).all()
    assert own_cost_us() > 0
    assert calls_within(0.05, 1e6) == 50
    assert calls_within(0.05, 1e12) == 1


# The gate: two runs of the same program, and one that has become slower


def _simulated(random: np.random.Generator, slower: float = 1.0) -> dict[str, Any]:
    """Simulate a run as a shared board gives it: a clock that drifts, neighbours, spikes, another start each time."""
    rounds, calls = 100, 30
    # where a run's memory happens to lie, and how warm the room is: not in the spread of the run
    level = 500 * slower * random.normal(1, 0.008)
    drift = np.zeros(rounds)
    for i in range(1, rounds):
        drift[i] = 0.9 * drift[i - 1] + random.normal(0, 0.004)
    kept = []
    busy = 0
    for i in range(rounds):
        busy = busy - 1 if busy > 0 else int(random.random() < 0.02) * int(random.integers(2, 6))
        values = level * (1 + drift[i]) * random.lognormal(0, 0.04, calls) * (1.3 if busy else 1.0)
        values[random.random(calls) < 0.01] *= random.uniform(2, 10)
        kept.append({"at": i * 0.1, "us": values.round(2).tolist()})
    everything = np.concatenate([one["us"] for one in kept])
    row = {
        "model": "m.tflite",
        "backend": "tflite_cpu",
        "device": "cpu",
        "status": "ok",
        "reason": "",
        "sha256": "0",
        "latency_us": summarize(everything),
        "rounds": kept,
    }
    return {"schema": runner.SCHEMA, "machine": {}, "results": [row]}


@pytest.mark.slow
def test_no_change_is_reported_in_100_equal_pairs() -> None:
    random = np.random.default_rng(8)
    gate = Gate.parse("p50>+5%")
    for _ in range(100):
        changes = compare_reports(_simulated(random), _simulated(random))
        assert [change.verdict for change in changes] == ["same"]
        outcome = judge(changes, [gate])
        assert not outcome.failures + outcome.not_judged


def test_ten_percent_slower_is_found_every_time() -> None:
    random = np.random.default_rng(9)
    gates = [Gate.parse("p50>+3%"), Gate.parse("p50>+20%")]
    for _ in range(20):
        changes = compare_reports(_simulated(random), _simulated(random, slower=1.1))
        assert [change.verdict for change in changes] == ["slower"]
        (failure,) = judge(changes, gates).failures
        assert "the limit is +3%" in failure
    changes = compare_reports(_simulated(random, slower=1.1), _simulated(random))
    assert [change.verdict for change in changes] == ["faster"]


def test_a_paired_interval_is_narrower() -> None:
    random = np.random.default_rng(1)
    common = random.lognormal(0, 0.3, (100, 1))
    ours, theirs = (list(common * random.lognormal(0, 0.01, (100, 20))) for _ in range(2))
    paired, unpaired = (compared_interval(np.divide, ours, theirs, 50.0, paired=paired) for paired in (True, False))
    assert paired[1] - paired[0] < unpaired[1] - unpaired[0]


@pytest.mark.parametrize("rank", [50.0, 99.0])
def test_the_percentiles_of_drawn_segments_are_numpys(rank: float) -> None:
    random = np.random.default_rng(2)
    rounds = [random.lognormal(0, 0.1, random.integers(1, 30)).round(2) for _ in range(47)]
    bounds = np.linspace(0, len(rounds), 21).astype(int).tolist()
    segments = [np.concatenate(rounds[start:end]) for start, end in pairwise(bounds)]
    draws = np.random.default_rng(0).integers(0, 20, (1000, 20)).tolist()
    drawn = [np.percentile(np.concatenate([segments[i] for i in draw]), rank) for draw in draws]
    assert interval(rounds, rank) == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))))


def test_what_lasts_for_many_rounds_is_in_the_interval() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(100):
        # one value a round, as benchmarks/ has them; the clock keeps its rate for ten rounds
        ours, theirs = (
            np.exp(np.repeat(random.normal(0, 0.01, 100), 10) + random.normal(0, 0.002, 1000)) for _ in range(2)
        )
        low, high = compared_interval(np.divide, ours[:, None], theirs[:, None], 50.0, paired=True)
        covered += low <= 1 <= high
    assert covered >= 85  # single rounds, taken for independent, cover half


def test_a_row_that_is_lost_fails_every_gate() -> None:
    random = np.random.default_rng(2)
    before, after = _simulated(random), _simulated(random)
    after["results"][0] = {**after["results"][0], "status": "failed", "reason": "DeviceLostError: unplugged"}
    del after["results"][0]["latency_us"]
    changes = compare_reports(before, after)
    assert changes[0].verdict == "lost"
    assert "unplugged" in judge(changes, [Gate.parse("p50>+50%")]).failures[0]
    assert compare_reports(after, before)[0].verdict == "new"


def test_invalid_runs_are_not_judged() -> None:
    random = np.random.default_rng(3)
    before, after = _simulated(random), _simulated(random, slower=2)
    after["results"][0].update(status="INVALID", reason="it never became steady")
    (change,) = compare_reports(before, after)
    assert change.verdict == "cannot tell"
    assert "never became steady" in change.reason
    assert change.ratio == pytest.approx(2, rel=0.1)
    outcome = judge([change], [Gate.parse("p50>+5%"), Gate.parse("p90>+5%")])
    assert outcome.failures == []
    assert outcome.not_judged == ["p50>+5% for m.tflite on tflite_cpu:cpu: after is INVALID: it never became steady"]


def test_what_ran_in_neither_report_is_no_matter_for_a_gate() -> None:
    report = _simulated(np.random.default_rng(7))
    row = report["results"][0]
    absent = {**row, "backend": "edgetpu", "device": "usb:0", "status": "missing", "reason": "no stick"}
    del absent["latency_us"]
    report["results"] = [row, absent]
    changes = compare_reports(report, report)
    assert [(c.verdict, c.reason) for c in changes if c.backend == "edgetpu"] == [("not run", "no stick")]
    outcome = judge(changes, [Gate.parse("p50>+5%")])
    assert outcome.failures + outcome.not_judged == []


def test_a_gate_over_a_report_that_measured_nothing_is_not_judged() -> None:
    full = _simulated(np.random.default_rng(8))
    empty = {**full, "results": []}
    for before, after in ((empty, full), (empty, empty)):
        outcome = judge(compare_reports(before, after), [Gate.parse("p50>+5%")])
        assert (outcome.failures, len(outcome.not_judged)) == ([], 1)


def test_too_few_calls_for_a_percentile() -> None:
    random = np.random.default_rng(4)
    before, after = _simulated(random), _simulated(random)
    for report in (before, after):
        report["results"][0]["rounds"] = report["results"][0]["rounds"][:3]
    (change,) = compare_reports(before, after, ["p99"])
    assert change.verdict == "cannot tell"
    assert "100 calls" in change.reason


def test_other_machines_and_other_files_are_noted() -> None:
    before, after = _simulated(np.random.default_rng(5)), _simulated(np.random.default_rng(6))
    after["machine"]["board"] = "Raspberry Pi 5"
    after["results"][0]["sha256"] = "1"
    assert sorted(differences(before, after)) == [
        "m.tflite is not the same file in both (SHA-256)",
        "the board differs: - and Raspberry Pi 5",
    ]


@pytest.mark.parametrize("text", ["p50", "p50>5", "p42>+5%", "p50<+5%", "mean>+5%", ""])
def test_wrong_gates_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="p50>"):
        Gate.parse(text)


def test_gates_are_read() -> None:
    assert Gate.parse("p50>+5%") == Gate("p50", 5)
    assert Gate.parse(" p99.9 > 2.5 % ") == Gate("p99.9", 2.5)


GOOD_ROW = {"model": "m", "backend": "b", "device": "d", "status": "ok", "reason": ""}


def _report_of(row: Any) -> str:
    return json.dumps({"schema": runner.SCHEMA, "machine": {}, "results": [row]})


@pytest.mark.parametrize(
    "content",
    [
        None,
        "no json",
        "[]",
        '{"schema": 0}',
        f'{{"schema": {runner.SCHEMA}, "results": []}}',
        f'{{"schema": {runner.SCHEMA}, "machine": {{}}, "results": {{}}}}',
        _report_of(1),
        _report_of({"model": "m"}),
        _report_of({**GOOD_ROW, "latency_us": {}}),
        _report_of({**GOOD_ROW, "latency_us": {}, "rounds": [{"us": ["x"]}]}),
        _report_of({**GOOD_ROW, "latency_us": {"p50": ""}, "rounds": []}),
    ],
)
def test_what_is_no_report_is_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(OptionError, match=r"report\.json"):
        read_report(path)


# Under load


def test_a_fixed_rate_counts_what_waits_behind_a_slow_answer() -> None:
    calls = 0

    def call(_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 10:
            sleep(0.1)

    figures = at_rate(call, None, rate=1000, seconds=0.2)
    assert calls == 200
    # one call was slow, but the hundred that were due meanwhile waited: that is what a caller feels
    assert figures["service_us"]["p90"] < 10_000
    assert figures["latency_us"]["p90"] > 50_000


def test_a_rate_that_cannot_be_kept_is_said() -> None:
    figures = at_rate(lambda _: sleep(0.01), None, rate=1000, seconds=0.05)
    assert not figures["kept_up"]
    assert figures["behind_ms"] > 1
    assert figures["per_second"] < 200


def test_throughput_counts_all_callers() -> None:
    feeds = {"image": np.zeros((1, 8, 8, 1), np.uint8)}
    figures = throughput(lambda **more: accelerate.load(DIGITS, backend="tflite_cpu", **more), feeds, 2, 0.05)
    assert figures["callers"] == 2
    assert figures["per_second"] > 0
    assert figures["latency_us"]["n"] > 0


def test_an_error_of_a_caller_reaches_the_one_who_asked() -> None:
    def load(**_: object) -> accelerate.Model:
        return accelerate.load(DIGITS, backend="tflite_cpu")

    with pytest.raises(accelerate.TensorError):
        throughput(load, {"image": np.zeros(3)}, 1, 0.05)


def test_parts_that_a_runtime_measures_itself_are_means_of_the_calls_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    with accelerate.load(DIGITS, backend="tflite_cpu") as model:
        feeds = {"image": np.zeros((1, 8, 8, 1), np.uint8)}
        assert not {"inside", "outside"} & measure_phases(model, feeds, 0.02).keys()
        told = iter([{"queue": (10, 5.0), "compute": (0, 0.0)}, {"queue": (30, 5.04), "compute": (20, 0.002)}])
        monkeypatch.setattr(model, "phases", lambda: next(told))
        phases = measure_phases(model, feeds, 0.02)
    assert phases["inside"] == pytest.approx({"queue": 2.0, "compute": 0.1})
    assert 0 <= phases["outside"] < phases["execute"] * 10


# Twins


@pytest.fixture
def twins() -> Iterator[tuple[accelerate.Model, accelerate.Model]]:
    with accelerate.load(DIGITS) as one, accelerate.load(TWIN) as other:
        yield one, other


def test_twins_get_the_same_real_values(twins: tuple[accelerate.Model, accelerate.Model]) -> None:
    tflite, onnx = twins
    assert are_twins(tflite, onnx)
    (real,) = random_real_inputs(tflite, 1, seed=0)
    (levels,), (values,) = (feeds_from(real, tflite, model).values() for model in twins)
    assert levels.dtype == np.uint8
    assert values.shape == (1, 1, 8, 8)
    np.testing.assert_allclose(values[0, 0], (levels[0, :, :, 0] - 128.0) / 127.5, atol=1e-6)


def test_agreement_of_twins(twins: tuple[accelerate.Model, accelerate.Model]) -> None:
    tflite, onnx = twins
    known = random_answers(tflite, seed=1)
    equal = compare_answers(known, tflite)
    assert (equal["top1"], equal["largest_difference"], equal["of_range"], equal["agrees"]) == (1.0, 0.0, 0.0, True)
    apart = compare_answers(known, onnx)
    assert (apart["inputs"], apart["top1"], apart["agrees"]) == (8, 1.0, True)
    assert 0 < apart["largest_difference"] < 0.05 * apart["range"]
    assert apart["of_range"] == pytest.approx(apart["largest_difference"] / apart["range"])


# A whole run


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return runner.run([DIGITS, TWIN], QUICK, backends=BACKENDS)


def test_a_run_says_all_that_it_promises(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["settings"]["seed"] == 0
    assert report["own_cost_us"] > 0
    rows = [row for row in report["results"] if row["status"] != "missing"]
    assert [(row["backend"], row["device"]) for row in rows] == [("tflite_cpu", "cpu"), ("onnxruntime", "cpu")]
    for row in rows:
        assert row["status"] in ("ok", "INVALID")
        assert bool(row["reason"]) is (row["status"] == "INVALID")
        assert row["group"] == "digits_uint8.tflite"
        assert len(row["sha256"]) == 64
        assert row["runtime"]["version"]
        assert min(row["load_ms"], row["first_ms"], row["latency_us"]["p50"]) > 0
        assert row["warmup"]["calls"] > 0
        assert [one["callers"] for one in row["throughput"]] == [1, 2]
        assert all(one["per_second"] > 0 for one in row["throughput"])
        assert row["phases_us"]["execute"] > 0
        assert row["agreement"]["top1"] == 1.0
        assert row["ratio"]["low"] <= row["ratio"]["high"]
    assert rows[0]["ratio"]["value"] == 1


def test_a_model_of_which_one_call_outlasts_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_ROUND", 0.0)  # as if no two calls fitted into a round
    report = runner.run([DIGITS, TWIN], runner.Settings(seconds=1e-6, callers=(1,)), backends=BACKENDS)
    for row in (row for row in report["results"] if row["status"] != "missing"):
        assert (row["status"], row["latency_us"]["n"]) == ("INVALID", 1)
        assert "too few" in row["reason"]
        assert row["latency_us"]["p50"] == row["latency_us"]["min"]
        assert row["ratio"]["value"] > 0


def test_all_rows_have_as_many_threads(report: dict[str, Any]) -> None:
    ran = [row for row in report["results"] if row["status"] != "missing"]
    assert [(row["threads"], row["runtime"]["details"]["num_threads"]) for row in ran] == [(1, 1)] * 2
    for subject in rows.find_subjects([DIGITS, TWIN], ["tflite_cpu", "onnxruntime"], arguments={"num_threads": 2}):
        if subject.row["status"] == "ok":
            with subject.load() as model:
                assert model.runtime.details["num_threads"] == 2


def test_a_backend_whose_threads_are_settled_is_measured_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(*given: Any, **options: Any) -> accelerate.Plan:
        if options["backend"] == "onnxruntime" and "num_threads" in options:
            raise OptionError("num_threads is settled on the server", "leave it out")
        return accelerate.plan(*given, **options)

    monkeypatch.setattr(rows, "plan", plan)
    found = [s for s in rows.find_subjects([DIGITS, TWIN], BACKENDS) if s.row["status"] == "ok"]
    assert [(s.target, s.row["threads"], dict(s.arguments)) for s in found] == [
        ("tflite_cpu:cpu", 1, {"num_threads": 1}),
        ("onnxruntime:cpu", None, {}),
    ]
    assert list(comparison([s.row for s in found])) == [
        "Each has 1 CPU thread, but for those below.",
        "Threads that bench cannot set: onnxruntime cpu digits.onnx.",
    ]


def test_an_option_that_a_backend_does_not_have_is_the_reason_of_its_row() -> None:
    models, settings = [DIGITS, TWIN], runner.Settings(seconds=0.1, callers=(1,))
    report = runner.run(models, settings, backends=["tflite_cpu", "onnxruntime"], options={"engine": "litert"})
    told = {row["backend"]: row for row in report["results"]}
    assert told["tflite_cpu"]["runtime"]["details"]["engine"] == "litert"
    assert told["onnxruntime"]["status"] == "missing"
    assert "no option 'engine'" in told["onnxruntime"]["reason"]
    assert report["settings"]["options"] == ["engine"]


def test_the_reference_is_the_engine_of_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger.py").write_text(
        "from accelerate.backends.tflite_cpu import TFLiteCPU\n"
        "class Stranger(TFLiteCPU):\n    name, formats = 'a_stranger', {}\n"
    )
    monkeypatch.syspath_prepend(declare(tmp_path, "stranger", a_stranger="Stranger"))
    settings = runner.Settings(seconds=0.1, callers=(1,))
    both = runner.run([DIGITS], settings, backends=["a_stranger", "tflite_cpu"])["results"]
    told = [(row["agreement"]["reference"], row["agreement"]["own_engine"]) for row in both]
    assert told == [("tflite_cpu:cpu, digits_uint8.tflite", True)] * 2
    assert [row["ratio"]["value"] == 1 for row in both] == [False, True]
    (alone,) = runner.run([DIGITS], settings, backends=["a_stranger"])["results"]
    assert (alone["agreement"]["reference"], alone["agreement"]["own_engine"]) == (
        "a_stranger:cpu, digits_uint8.tflite",
        False,
    )
    assert "no own engine of the format is here" in next(comparison([alone]))


def test_devices_take_turns(report: dict[str, Any]) -> None:
    one, other = (row["rounds"] for row in report["results"] if "rounds" in row)
    assert abs(len(one) - len(other)) <= 1
    for mine, theirs in zip(one[1:], other, strict=False):
        assert mine["at"] > theirs["at"] - 1  # neither is done before the other has begun
    starts = sorted([(r["at"], "one") for r in one] + [(r["at"], "other") for r in other])
    names = [name for _, name in starts]
    assert not any(names[i] == names[i + 1] == names[i + 2] for i in range(len(names) - 2))


def test_a_device_that_fails_midway_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = accelerate.load

    def load(path: str, **options: Any) -> accelerate.Model:
        model = real(path, **options)
        if options["backend"] == "onnxruntime":
            infer = model.infer

            def failing(*arguments: Any, **more: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls > 300:
                    raise InferenceError("the cable came off")
                return infer(*arguments, **more)

            model.infer = failing  # type: ignore[method-assign]
        return model

    monkeypatch.setattr(rows, "load", load)
    report = runner.run([DIGITS, TWIN], runner.Settings(seconds=0.3, callers=(1,)), backends=BACKENDS)
    lost = next(row for row in report["results"] if row["backend"] == "onnxruntime")
    assert (lost["status"], lost["reason"]) == ("failed", "InferenceError: the cable came off")
    kept = next(row for row in report["results"] if row["backend"] == "tflite_cpu")
    assert kept["latency_us"]["n"] > 0


def test_a_device_that_is_not_here_is_a_row() -> None:
    (missing,) = rows.find_subjects([DIGITS], ["tflite_cpu"], ["warp:9"])
    assert missing.row["status"] == "missing"
    assert "warp:9" in missing.row["reason"]
    assert missing.row["remedy"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/net.tflite"], ["net.tflite"]),
        (["a/net.tflite", "b/net.onnx"], ["net.tflite", "net.onnx"]),
        (["d1/net.tflite", "d2/net.tflite", "x/other"], ["d1/net.tflite", "d2/net.tflite", "other"]),
        (["/x/a/d/net", "/x/b/d/net"], ["a/d/net", "b/d/net"]),
        (["net", "d/net"], ["net", "d/net"]),
        (["triton://one:8001/net", "triton://two:8001/net"], ["one:8001/net", "two:8001/net"]),
        (["same", "same"], ["same"]),
    ],
)
def test_models_are_named_by_what_tells_them_apart(paths: list[str], names: list[str]) -> None:
    assert list(rows.distinguish(paths).values()) == names


def test_twins_in_two_folders_stay_two_rows(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "net.tflite" for folder in ("d1", "d2")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(Path(DIGITS).read_bytes())
    report = runner.run(list(map(str, paths)), runner.Settings(seconds=0.1, callers=(1,)), backends=["tflite_cpu"])
    changes = compare_reports(report, report)
    assert [change.model for change in changes] == ["d1/net.tflite", "d2/net.tflite"]
    names = [name(row, report["results"]) for row in report["results"]]
    assert names == ["tflite_cpu cpu d1/net.tflite", "tflite_cpu cpu d2/net.tflite"]


def test_a_row_is_named_by_its_place_where_all_are_of_one_model() -> None:
    cpu, stick = ({"model": "m", "backend": "edgetpu", "device": device} for device in ("cpu", "-"))
    assert (name(cpu, [cpu, stick]), name(stick, [cpu, stick])) == ("edgetpu cpu", "edgetpu")


@pytest.mark.parametrize("backends", [(), ("onnxruntime",)])
def test_what_is_no_model_is_refused_in_one_line(backends: tuple[str, ...], tmp_path: Path) -> None:
    text = tmp_path / "a.py"
    text.write_text("import this\n")
    with pytest.raises(ModelError, match="text file that starts with 'import this', not a model") as found:
        rows.find_subjects([str(text)], backends)
    assert "\n" not in str(found.value)
    with pytest.raises(ModelError, match="is a directory, not a model"):
        rows.find_subjects([str(tmp_path)], backends)


def test_the_peak_of_memory_is_seen() -> None:
    if not machine.reset_peak_memory():
        pytest.skip("this kernel does not let a process reset its peak (/proc/self/clear_refs)")
    before = machine.peak_memory_mb()
    block = np.ones(50_000_000, np.uint8)  # more than malloc ever keeps for the next (mallopt(3): 32 MiB)
    assert before is not None
    del block
    after = machine.peak_memory_mb()
    assert after is not None
    assert after > before + 40


def test_importing_the_package_imports_nothing_of_it() -> None:
    program = "import sys, accelerate; print([m for m in sys.modules if m.startswith('accelerate.bench')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_progress_only_goes_forward() -> None:
    seen: list[float] = []
    runner.run(
        [DIGITS],
        runner.Settings(seconds=0.1, callers=(1,)),
        backends=BACKENDS,
        notify=lambda what, done: seen.append(done),
    )
    assert seen == sorted(seen)
    assert seen[-1] == 1
