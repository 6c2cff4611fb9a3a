"""`edge-accelerate serve` as a process: its words, its end, kills under load, TLS, and programs that share a device."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="needs the extra: serve")
pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")
pytest.importorskip("click", reason="needs the extra: cli")

import grpc
import odd_models
from conftest import ROOT
from serving import Serving

import accelerate

pytestmark = pytest.mark.slow
SHM = Path("/dev/shm")
KILLS = [3, pytest.param(10, marks=pytest.mark.long)]


def serve(*arguments: str, status: int) -> str:
    """Run the command to its end, and return what it says on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "accelerate", "serve", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "double.tflite"
    path.write_bytes(odd_models.add3())
    return str(path)


def test_what_it_says_and_how_it_ends(model: str) -> None:
    odd = Path(model).with_name("a b#c?@%41.tflite")
    odd.write_bytes(odd_models.add3())
    with Serving({"other": model}, model, str(odd)) as server:
        first, second, third, fourth = server.log().splitlines()
        assert first == f"serving {server.url('other')} on tflite_cpu cpu"
        assert second == f"serving {server.url('double')} on tflite_cpu cpu"
        assert fourth == "ready"
        for url in (server.url("double"), third.split()[1]):
            with accelerate.load(url) as double:
                assert double.infer(np.ones(3, np.float32))["y"].tolist() == [2, 2, 2]
        assert server.stop() == 0
        assert len(server.log().splitlines()) == 4
        with pytest.raises(accelerate.ServerError):
            accelerate.load(server.url("double"))


def test_two_models_of_one_name(model: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    other = tmp_path / "sub" / "double.tflite"
    other.write_bytes(odd_models.add3())
    assert "name one of them: NAME=MODEL" in serve(model, str(other), status=1)
    versions = ("triton://localhost:1/double/1", "triton://localhost:1/double/2")
    assert "two models would be served as 'double'" in serve(*versions, status=1)


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        # it is said before models load, for that may take long
        said = serve("missing.tflite", "--port", str(taken.getsockname()[1]), status=1)
    assert "another program listens there; stop it, or take another port: --port 8002, or --port 0 for a free" in said


def test_a_model_that_cannot_be_loaded_among_some_that_can(model: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(odd_models.add3()[:200])
    counting = tmp_path / "counting.tflite"
    counting.write_bytes(odd_models.counting())
    missing = str(tmp_path / "missing.tflite")
    said = serve(model, str(broken), missing, str(counting), "--port", "0", status=1)
    assert "3 of 4 models cannot be served" in said
    assert "there is no file" in said
    assert "keeps values" in said
    assert "--keep-going" in said
    with Serving({"double": model}, str(broken), str(counting), "--keep-going") as server:
        assert "not served: broken: " in server.log()
        assert "not served: counting: " in server.log()
        with accelerate.load(server.url("double")) as double:
            assert double.infer(np.ones(3, np.float32))
        with pytest.raises(accelerate.ServerError, match="not ready"):
            accelerate.load(server.url("broken"))
    assert "cannot be served" not in serve(missing, "--keep-going", status=1)


def test_options_reach_load(model: str) -> None:
    with Serving({"double": model}, "--option", "replicas=2", "--option", "isolation=process") as server:
        with accelerate.load(server.url("double")) as double:
            assert double.infer(np.ones(3, np.float32))["y"].tolist() == [2, 2, 2]
        children = _children(server.pid)
        assert len(children) == 2
        assert server.stop() == 0
        end = time.monotonic() + 5
        while alive := [child for child in children if _lives(child)]:
            assert time.monotonic() < end, alive
            time.sleep(0.01)
    assert "the clients, each for itself" in serve(model, "--option", "dequantize=true", status=2)


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_running_calls_end_before_the_server_does() -> None:
    with Serving({"slow": odd_models.slow(1.5)}, "--option", "num_threads=1", "--grace", "60") as server:
        with accelerate.load(server.url("slow")) as slow:
            x = np.ones(slow.metadata().inputs[0].shape, np.float32)
            answers: list[object] = []
            thread = threading.Thread(target=lambda: answers.append(slow.infer(x, timeout=60)))
            thread.start()
            time.sleep(0.7)
            assert server.stop() == 0
            thread.join()
        assert len(answers) == 1


def test_calls_that_do_not_end_are_given_up() -> None:
    with Serving({"slow": odd_models.slow(8)}, "--option", "num_threads=1", "--grace", "0.2") as server:
        with accelerate.load(server.url("slow")) as slow:
            x = np.ones(slow.metadata().inputs[0].shape, np.float32)
            errors: list[BaseException] = []

            def call() -> None:
                try:
                    slow.infer(x, timeout=60)
                except accelerate.AccelerateError as error:
                    errors.append(error)

            thread = threading.Thread(target=call)
            thread.start()
            time.sleep(1)
            started = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - started < 6  # of 7 seconds or more
            thread.join()
        assert "did not end within 0.2 s" in server.log()
        assert len(errors) == 1


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("memory", ["system", "none"])
def test_kills_under_load(kills: int, memory: str) -> None:
    """A call that meets a dead server has an error of ours; every answer is right; after each kill there are some."""
    wrong: list[object] = []
    right = [0] * 4
    over = threading.Event()

    def work(number: int) -> None:
        random = np.random.default_rng(number)
        with accelerate.load(server.url("add"), shared_memory=memory) as model:
            while not over.is_set():
                a, b = random.random((2, 2, 3), np.float32)
                try:
                    if np.array_equal(model.infer({"a": a, "b": b}, timeout=2)["sum"], a + b):
                        right[number] += 1
                    else:
                        wrong.append((a, b))
                except accelerate.ServerError:
                    time.sleep(0.02)
                except accelerate.InferenceTimeoutError:
                    pass
                except Exception as error:
                    wrong.append(error)

    with Serving({"add": odd_models.two_inputs()}) as server:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(kills):
                _wait_for_more(right)
                server.kill()
                time.sleep(0.05)
                server.start()
            _wait_for_more(right)
        finally:
            over.set()
            for thread in threads:
                thread.join()
    assert wrong == []
    assert not [name for name in os.listdir(SHM) if "edge-accelerate-" in name and f"-{os.getpid()}-" in name]


def _wait_for_more(counts: Sequence[int]) -> None:
    before, end = list(counts), time.monotonic() + 60
    while any(now < then + 10 for now, then in zip(counts, before, strict=True)):
        assert time.monotonic() < end, f"no answers after a kill: {before} {list(counts)}"
        time.sleep(0.01)


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and what it signed: server, client."""
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        sign = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *sign)
    return folder


def test_tls(certificates: Path, model: str) -> None:
    def path(name: str) -> str:
        return str(certificates / name)

    tls = ("--tls-certificate", path("server.pem"), "--tls-key", path("server.key"))
    both = {"ca": path("ca.pem"), "certificate": path("client.pem"), "key": path("client.key")}
    with Serving({"double": model}, *tls, "--tls-client-ca", path("ca.pem")) as server:
        url = f"tritons://{server.address}/double"
        assert url in server.log()
        with accelerate.load(url, ssl=both) as double:
            assert double.runtime.details["transport"] == "system-shared-memory"
            assert double.infer(np.ones(3, np.float32))["y"].tolist() == [2, 2, 2]
        for given in ({"ca": path("ca.pem")}, {}):
            with pytest.raises(accelerate.ServerError):
                accelerate.load(url, ssl=given)
        with pytest.raises(accelerate.ServerError):
            accelerate.load(server.url("double"))
    assert "both a certificate and its key" in serve(model, *tls[:2], status=1)
    assert "no files for TLS" in serve(model, "--port", "0", *tls[:3], path("client.key"), status=1)
    assert "no PEM file" in serve(model, "--tls-certificate", model, "--tls-key", path("server.key"), status=1)
    assert "cannot be read" in serve(model, "--tls-certificate", "/nope", "--tls-key", path("server.key"), status=1)


# Real models


def test_real_models_answer_as_they_do_locally(models_dir: Path) -> None:
    """To the last bit, by messages, in shared memory and through a Binding; and the metadata is the same."""
    names = [
        name
        for name in (
            "mobilenet_v2_1.0_224_quant.tflite",
            "coco_ssd_mobilenet_v1_1.0_quant.tflite",
            "vww_96_int8.tflite",
        )
        if (models_dir / name).is_file()
    ]
    random = np.random.default_rng(5)
    with Serving({name.partition(".")[0]: models_dir / name for name in names}) as server:
        for name in names:
            url = server.url(name.partition(".")[0])
            with (
                accelerate.load(models_dir / name) as local,
                accelerate.load(url, shared_memory="none") as messages,
                accelerate.load(url, shared_memory="system") as shared,
                shared.bind() as binding,
            ):
                assert messages.metadata() == shared.metadata() == local.metadata()
                (info,) = local.metadata().inputs
                x = random.integers(0, 256, binding.inputs[info.name].shape).astype(np.uint8).view(info.data_type)
                wanted = local.infer(x)
                binding.inputs[info.name][...] = x
                binding.run()
                for answer in (messages.infer(x), shared.infer(x), binding.outputs):
                    for output, array in wanted.items():
                        np.testing.assert_array_equal(answer[output], array, strict=True)


# One accelerator for several programs


@pytest.fixture(scope="module")
def shared_stand_in() -> Iterator[Serving]:
    """A server that alone has the stand-in for an Edge TPU; no Edge TPU takes part."""
    stand_in = pytest.importorskip("edgetpu_stand_in")
    with Serving(
        {"double": stand_in.floats([64])}, "--backend", "edgetpu", "--option", f"library={stand_in.library()}"
    ) as server:
        yield server


@pytest.mark.parametrize("calls", [50, pytest.param(500, marks=pytest.mark.long)])
def test_four_programs_share_a_stand_in_for_an_edge_tpu(calls: int, shared_stand_in: Serving) -> None:
    code = f"""
import os, numpy as np, accelerate
random = np.random.default_rng(os.getpid())
with accelerate.load({shared_stand_in.url("double")!r}) as model, model.bind() as binding:
    assert model.runtime.details["transport"] == "system-shared-memory"
    for _ in range({calls}):
        x = random.random(64, np.float32)
        binding.inputs["x"][...] = x
        binding.run()
        assert np.array_equal(binding.outputs["y"], x + x)
        x = random.random(64, np.float32)
        assert np.array_equal(model.infer(x, timeout=5)["y"], x + x)
print("right")
"""
    programs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(4)
    ]
    assert [program.communicate(timeout=300)[0] for program in programs] == ["right\n"] * 4


def test_the_second_server_of_one_stand_in_for_an_edge_tpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = pytest.importorskip("edgetpu_stand_in")
    monkeypatch.setenv("EDGETPU_STAND_IN_LOCK", str(tmp_path / "stick"))
    options = ("--backend", "edgetpu", "--option", f"library={stand_in.library()}")
    path = tmp_path / "double.tflite"
    path.write_bytes(stand_in.floats([64]))
    with Serving({"double": path}, *options) as first:
        said = serve(str(path), "--port", "0", *options, status=1)
        assert re.search("does not open the device.*another.*process may have it open.*lsof", said), said
        with accelerate.load(first.url("double")) as model:  # which the other left alone
            assert model.infer(np.ones(64, np.float32))["y"].tolist() == [2] * 64
    with Serving({"double": path}, *options):
        pass


def test_the_unit_for_systemd_starts_it(model: str) -> None:
    unit = (ROOT / "deploy" / "serve" / "edge-accelerate-serve@.service").read_text()
    (command,) = re.findall("^ExecStart=/opt/edge-accelerate/bin/edge-accelerate serve (.*)$", unit, re.M)
    (options,) = re.findall("^# OPTIONS=(.*)$", unit, re.M)
    assert command == "$MODELS $OPTIONS"
    assert "\nKillMode=mixed\n" in unit  # else the processes of isolated models end before their calls
    with Serving({"double": model}, *options.replace("--device tpu", "--device cpu").split()) as server:
        assert server.stop() == 0


def test_a_signal_while_it_loads_ends_it(model: str) -> None:
    command = [sys.executable, "-m", "accelerate", "serve", model, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while "ai_edge_litert" not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.001)
        process.terminate()
        assert process.wait(30) in (0, -signal.SIGTERM)


def test_ctrl_c_ends_it_as_sigterm_does(model: str) -> None:
    with Serving({"double": model}) as server:
        assert server.stop(signal.SIGINT) == 0
        assert "Traceback" not in server.log()


def test_readiness_over_raw_stubs(model: str) -> None:
    with Serving({"double": model}) as server, grpc.insecure_channel(server.address) as channel:
        ready = channel.unary_unary("/inference.GRPCInferenceService/ServerReady", None, None)
        assert ready(b"", timeout=5) == b"\x08\x01"
        server.stop()
        with pytest.raises(grpc.RpcError):
            ready(b"", timeout=5)
