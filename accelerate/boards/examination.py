"""All that is tried of a board, one step after the other, and what is known of it at any time."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .._version import __version__
from ..bench.page import make_page
from .models import DIGITS
from .steps import run, try_items

__all__ = ["Examination"]

SCHEMA = 1
_SILENCE = 180.0  # seconds that one item may take: a first engine on a small board is built for minutes
_BAD = frozenset({"crashed", "failed", "wrong", "error"})
_SAVE_EVERY = 5.0  # seconds

Save = Callable[[Mapping[str, Any], Mapping[str, str]], None]


class Examination:
    """Examines this board.

    Parameters
    ----------
    models : sequence of str
        Files to try beside the project's own.
    seconds : float
        Of each row of the bench.
    notify : callable
        Called with what is going on and the share of the work that is done.
    show : callable
        Called with the parts of each line for the board's owner: what was done, on what, what came of it.
    save : callable
        Called with the report and the further files by name, now and then.
    """

    def __init__(
        self,
        models: Sequence[str],
        seconds: float,
        notify: Callable[[str, float], None],
        show: Callable[[str, str, str], None],
        save: Save,
    ) -> None:
        self._models = [str(Path(model).absolute()) for model in models]
        self._seconds = seconds
        self._notify = notify
        self._show = show
        self._save = save
        self._saved = 0.0
        self._done = 0.0
        self._lines: list[str] = []
        self._benches: dict[str, Mapping[str, Any]] = {}
        self.fine = True
        self.report: dict[str, Any] = {
            "schema": SCHEMA,
            "edge_accelerate": __version__,
            "began": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "models": [Path(model).name for model in models],
            "running": "",
            "complete": False,
            "doctor": {},
            "backends": [],
            "devices": [],
            "bench": [],
        }

    def save(self) -> None:
        """Save what is known now."""
        self._saved = time.monotonic()
        files = {"summary.txt": "\n".join((*self._lines, ""))}
        for name, found in self._benches.items():
            files |= {f"{name}.json": json.dumps(found), f"{name}.html": make_page(found)}
        self._save(self.report, files)

    def all(self) -> None:
        """Take all steps."""
        self._begin("doctor", 0.0)
        self._doctor()
        self._begin("devices", 0.05)
        targets = self._find_devices()
        for n, (backend, device) in enumerate(targets):
            entry = self._entry(backend, device)
            self._begin(f"known answers of {backend} on {device}", 0.1 + 0.6 * n / len(targets))
            self._items("known answers", "answers", entry)
            self._begin(f"conformance of {backend} on {device}", 0.1 + 0.6 * (n + 0.2) / len(targets))
            self._items("conformance", "conformance", entry)
        self._begin("bench", 0.7)
        if targets:
            self._bench(targets)
        else:
            self._tell(
                "bench", "-", "no device here can run models: see the remedies of `edge-accelerate doctor`", bad=True
            )
        self.report.update(running="", complete=True)
        self.save()

    def _begin(self, what: str, done: float) -> None:
        """Say what comes now, in the file as well: a board that this hangs leaves its name."""
        self._done = done
        self.report["running"] = what
        self._notify(what, done)
        self.save()

    def _item(self, what: str) -> None:
        self._notify(what, self._done)
        if time.monotonic() - self._saved > _SAVE_EVERY:
            step, _, _ = self.report["running"].partition(": ")
            self.report["running"] = f"{step}: {what}"
            self.save()

    def _tell(self, what: str, where: str, result: str, *, bad: bool = False) -> None:
        self.fine &= not bad
        self._lines.append(f"{what:<14} {where:<28} {result}")
        self._show(what, where, result)

    def _doctor(self) -> None:
        printed: list[str] = []
        ended = run(["-m", "accelerate", "doctor", "--json"], _SILENCE, printed.append, ends_with=(0, 1))
        found = _object("\n".join(printed))
        if found is None:
            self.report["doctor"] = {"reason": ended.reason or "no answer", "said": ended.said}
            last = (ended.said.splitlines() or [""])[-1]
            self._tell("doctor", "-", f"failed: {ended.reason or last}", bad=True)
            return
        found["tuned"] = len(found["tuned"])  # the paths of somebody's models
        found["environment"] = sorted(found["environment"])
        self.report["doctor"] = found
        lines = [*(line for line in found["machine"] if line["remedy"]), *found["conflicts"]]
        self._tell("doctor", found["board"]["name"] or "-", f"{_counted(len(lines), 'finding')} with a remedy")

    def _find_devices(self) -> list[tuple[str, str]]:
        """Return the backend and the id of each device to try."""
        backends: list[dict[str, Any]] = self.report["backends"]
        try_items("devices", {}, _SILENCE, self._item, backends)
        targets = []
        for found in backends:
            devices = found.get("devices", [])
            if found["status"] in _BAD:
                self._tell("devices", found["item"], f"{found['status']}: {found['reason']}", bad=True)
            for device in devices:
                if device["kind"] == "server":
                    self._tell("devices", f"{found['item']} {device['id']}", "not tried: no part of this board")
                elif not device["ready"]:
                    self._tell("devices", f"{found['item']} {device['id']}", f"not ready: {device['reason']}")
                else:
                    targets.append((found["item"], device["id"]))
        return targets

    def _entry(self, backend: str, device: str) -> dict[str, Any]:
        entry = {"backend": backend, "device": device, "answers": [], "conformance": []}
        self.report["devices"].append(entry)
        return entry

    def _items(self, what: str, task: str, entry: dict[str, Any]) -> None:
        results, where = entry[task], f"{entry['backend']} {entry['device']}"
        given = {"backend": entry["backend"], "device": entry["device"], "models": self._models}
        try:
            try_items(task, given, _SILENCE, self._item, results)
        finally:
            counts = Counter(one["status"] for one in results)
            said = ", ".join(f"{number} {status}" for status, number in counts.items()) or "nothing"
            self._tell(what, where, said, bad=bool(_BAD & counts.keys()))
        for one in results:
            if one["status"] in _BAD:
                reason = (one["reason"].splitlines() or [""])[-1]
                self._tell("", one["item"], f"{one['status']}: {reason}", bad=True)

    def _bench(self, targets: Sequence[tuple[str, str]]) -> None:
        """Measure all devices side by side; where that takes the process down, each alone."""
        backends, devices = (list(dict.fromkeys(each)) for each in zip(*targets, strict=True))
        together = self._measure("bench", "all devices", backends, devices, len(targets))
        if not together and len(targets) > 1:
            for n, (backend, device) in enumerate(targets):
                self._measure(f"bench-{n}", f"{backend} {device}", [backend], [device], 1)

    def _measure(self, name: str, where: str, backends: list[str], devices: list[str], rows: int) -> bool:
        chosen = [*(f"--backend={each}" for each in backends), *(f"--device={each}" for each in devices)]
        models = [*map(str, DIGITS), *self._models]
        command = ["-m", "accelerate", "bench", *models, *chosen, "--json", "--callers=1", f"--seconds={self._seconds}"]
        printed: list[str] = []
        limit = _SILENCE + 6 * rows * len(models) * self._seconds
        ended = run(command, limit, printed.append, ends_with=(0, 1))
        found = _object("\n".join(printed))
        if found is None:
            reason = ended.reason or (ended.said.splitlines() or ["no answer"])[-1]
            self.report["bench"].append({"where": where, "reason": reason, "said": ended.said})
            self._tell("bench", where, f"failed: {reason}", bad=True)
            return False
        self._benches[name] = found
        self.report["bench"].append({"where": where, "file": f"{name}.json"})
        measured = Counter(row["status"] for row in found["results"] if "latency_us" in row)
        self._tell("bench", where, _counted(sum(measured.values()), "row"))
        for row in found["results"]:
            if "latency_us" in row:
                p50 = row["latency_us"]["p50"]
                target = f"{row['backend']} {row['device']}"
                self._tell(
                    "", target, f"{row['model']}: p50 {p50:.1f} us{'' if row['status'] == 'ok' else ', not steady'}"
                )
            elif row["status"] not in ("missing", "ok"):
                self._tell("", f"{row['backend']} {row['device']}", f"{row['model']}: {row['reason']}")
        return True


def _object(text: str) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return None


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
