"""The HTML report, opened in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rich", reason="needs the extra: bench")
pytest.importorskip("click", reason="needs the extra: bench")

from accelerate.bench.charts import distribution, logarithmic
from accelerate.bench.page import make_page, write_page
from accelerate.bench.runner import SCHEMA
from accelerate.bench.statistics import summarize
from accelerate.errors import OptionError

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHARTS = 2


def make_row(backend: str, device: str, level: float, **more: Any) -> dict[str, Any]:
    random = np.random.default_rng(len(backend))
    rounds = [{"at": i * 0.1, "us": (level * random.lognormal(0, 0.1, 40)).tolist()} for i in range(50)]
    values = np.concatenate([one["us"] for one in rounds])
    return {
        "model": "<script>alert(1)</script>.tflite",
        "path": "x",
        "sha256": "0" * 64,
        "group": "x",
        "backend": backend,
        "device": device,
        "threads": 1,
        "status": "ok",
        "reason": "",
        "remedy": "",
        "load_ms": 12.5,
        "first_ms": 1.2,
        "memory_mb": 4.4,
        "runtime": {
            "name": "R",
            "version": "1",
            "device": device,
            "delegated": 1,
            "total": 2,
            "details": {"num_threads": 4},
        },
        "inputs": {"image": "uint8[1, 8, 8, 1]"},
        "latency_us": summarize(values),
        "rounds": rounds,
        "ratio": {"value": 1.5, "low": 1.4, "high": 1.6},
        "phases_us": {"convert": None, "copy_in": 1.0, "execute": level, "copy_out": 1.0},
        "throughput": [
            {"callers": 1, "per_second": 1e6 / level},
            {"callers": 2, "per_second": 1.9e6 / level},
            {"callers": 4, "reason": "InferenceError: busy"},
        ],
        "rate": {"rate": 100, "per_second": 99.0, "latency_us": summarize(values), "kept_up": False, "behind_ms": 5.0},
        "agreement": {
            "reference": "cpu",
            "own_engine": True,
            "inputs": 8,
            "top1": 1.0,
            "largest_difference": 0.004,
            "range": 1.0,
        },
        **more,
    }


def make_report(*rows: Mapping[str, Any]) -> dict[str, Any]:
    machine = dict.fromkeys(("board", "cpu", "governor", "platform", "python", "numpy", "edge_accelerate"), "some")
    heat = [{"at": float(i), "temperature": 40.0 + i, "throttled": "", "load": 0.1} for i in range(5)]
    return {
        "schema": SCHEMA,
        "settings": {"seconds": 5.0, "rate": 100, "callers": [1, 2, 4], "seed": 0},
        "machine": {"time": "2026-01-01", "cpus": 4, "usable_cpus": 4, **machine},
        "own_cost_us": 0.1,
        "results": list(rows),
        "conditions": heat,
    }


@pytest.fixture
def report() -> dict[str, Any]:
    equal = {"reference": "cpu", "own_engine": True, "inputs": 8, "top1": None, "largest_difference": 0.0, "range": 1.0}
    missing = {"model": "m", "backend": "edgetpu", "device": "usb:0", "status": "missing", "sha256": None}
    return make_report(
        make_row("tflite_cpu", "cpu", 500.0, agreement=equal),
        make_row("onnxruntime", "cuda:0", 90.0, status="INVALID", reason="its halves differ", remedy="cool down"),
        make_row("triton", "server", 3000.0, agreement={"reason": "no CPU here runs the model"}),
        {**missing, "reason": "no stick is plugged in", "remedy": "plug it in"},
    )


class Collector(HTMLParser):
    """Notes what a browser would fetch, and what is text."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(v) for k, v in attrs if k in ("src", "href", "xlink:href", "data", "srcset", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_but_itself(report: dict[str, Any]) -> None:
    page = make_page(report)
    found = Collector()
    found.feed(page)
    assert found.links == ["data:,"]
    assert "script" not in found.tags
    assert not re.search(r"url\(|@import|https?://", page)
    assert "default-src 'none'" in page
    assert "<script>alert(1)</script>.tflite" in found.text
    assert found.tags.count("svg") == CHARTS
    for told in ("INVALID", "its halves differ", "no stick is plugged in", "plug it in", "seed 0", "0.10 µs", "0" * 64):
        assert told in found.text


def test_one_row_and_none(report: dict[str, Any]) -> None:
    itself = {
        "inputs": 8,
        "top1": 1.0,
        "largest_difference": 0.0,
        "range": 1.0,
        "reference": "tflite_cpu:cpu, m",
        "own_engine": True,
    }
    alone = make_row("tflite_cpu", "cpu", 500.0, model="m", agreement=itself)
    page = make_page(make_report(alone))
    assert page.count("<svg") == CHARTS
    assert '<td data-label="vs CPU"><span>reference</span></td>' in page
    assert "<svg" not in make_page(make_report(report["results"][3]))


def test_twins_are_told_apart_in_every_place() -> None:
    page = make_page(make_report(*(make_row("tflite_cpu", "cpu", 500.0, model=f"{form}.tflite") for form in "ab")))
    for form in "ab":
        told = f"tflite_cpu cpu {form}.tflite"
        for place in (f"<i></i>{told}<", f"<span>{told}<", f">{told}</text>", f"<title>{told}</title>", f"<dt>{told}<"):
            assert place in page


def test_what_is_not_measured_is_said_not_to_have_run(report: dict[str, Any]) -> None:
    found = Collector()
    found.feed(make_page(report))
    assert "edgetpu usb:0 mnot run: no stick is plugged inremedy: plug it in" in found.text


def test_the_distribution_has_no_hill_of_what_lies_beyond_it() -> None:
    row = make_row("tflite_cpu", "cpu", 500.0)
    row["rounds"][0]["us"] = [1e6] * 20 + row["rounds"][0]["us"][20:]  # 20 of 2000, far beyond p99
    drawn = distribution([row])
    assert ">1 % of the calls lie beyond</text>" in drawn
    (hill,) = re.findall(r'<path d="M([^"]*)" class="area', drawn)
    heights = [float(point.split()[1]) for point in hill.removesuffix("Z").split("L")]
    assert heights[-2] == heights[-1]  # it ends on its base


@pytest.mark.parametrize(("low", "high"), [(2.5, 19.0), (1.0, 1.2), (90, 4000), (1, 1e6), (3, 30), (13.5, 21.6)])
def test_labels_of_a_logarithmic_axis_have_room(low: float, high: float) -> None:
    scale = logarithmic((low, high), 10, 390)
    places = [scale(tick) for tick in scale.ticks]
    assert len(places) >= 3
    assert all(after - before >= 50 for before, after in pairwise(places))


def test_a_file_that_cannot_be_written(report: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--html"):
        write_page(tmp_path / "no" / "folder" / "report.html", report)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: apt install chromium)")
def test_in_a_browser(report: dict[str, Any], tmp_path: Path) -> None:
    path, log, profile = tmp_path / "report.html", tmp_path / "net.json", tmp_path / "profile"
    write_page(path, report)
    done = subprocess.run(
        [
            str(BROWSER),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            "--proxy-server=127.0.0.1:9",
            *("--no-first-run", "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}"),
            *("--enable-logging=stderr", "--v=0", f"--log-net-log={log}", "--dump-dom", path.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr  # a refused resource, too, would be told there
    drawn = re.findall(r"<svg.*?</svg>", done.stdout, re.DOTALL)
    assert len(drawn) == CHARTS
    for chart in drawn:
        assert len(re.findall(r'class="(?:area|curve)', chart)) >= 1
        assert "NaN" not in chart
    events = json.loads(log.read_text())["events"]
    asked = [event["params"] for event in events if "initiator" in event.get("params", {})]
    # Chromium asks its maker for updates, which the dead proxy keeps from leaving this machine: those have no origin
    assert not [one["url"] for one in asked if one["initiator"] != "not an origin"]
