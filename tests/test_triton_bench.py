"""The comparison with a server among the devices."""

from __future__ import annotations

import pytest

pytest.importorskip("tritonclient.grpc")

from triton_server import TritonServer, needs_triton, triton  # noqa: F401 - a fixture

import accelerate
from accelerate.bench.runner import Settings, run
from accelerate.cli.bench_tables import print_report

MODELS = [f"{accelerate.__path__[0]}/data/{name}" for name in ("digits.onnx", "digits_uint8.tflite")]


@needs_triton
def test_a_server_is_a_row_that_says_where_its_time_goes(
    triton: TritonServer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("EDGE_ACCELERATE_TRITON_URL", triton.url)
    report = run(MODELS, Settings(seconds=0.05, callers=(1,)), backends=["triton", "onnxruntime", "tflite_cpu"])
    rows = [row for row in report["results"] if row["backend"] == "triton" and row["device"] == "server"]
    assert len(rows) == len(MODELS)
    for row in rows:
        assert row["agreement"]["reference"].startswith("onnxruntime:cpu, ")  # not the CPU behind the server
        assert row["agreement"]["top1"] == 1
        assert set(row["phases_us"]["inside"]) == {"queue", "compute_input", "compute_infer", "compute_output"}
        assert all(0 < part < 1e6 for part in row["phases_us"]["inside"].values())
        assert row["phases_us"]["outside"] > 0
        assert len(row["throughput"]) == 1
        assert row["threads"] == 1  # the shipped copy's own configuration says so
    print_report(report)
    assert "means: queue " in " ".join(capsys.readouterr().out.split())
    said = [record.getMessage() for record in caplog.records if "Python backend" in record.getMessage()]
    assert len(said) == 1  # and not once for each of the many copies that were loaded
    assert triton.url in said[0]
    assert MODELS[0] in said[0]
