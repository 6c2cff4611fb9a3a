"""Models over the Open Inference Protocol: what tritonclient and raw stubs are answered, and refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="needs the extra: serve")
pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")

import grpc
import odd_models
import tritonclient.grpc as stock
from test_metadata import labelled

import accelerate
from accelerate.contract import Array, LoadOptions, RuntimeInfo, RuntimeModel
from accelerate.formats.open_inference import messages
from accelerate.formats.open_inference.description import PARAMETER, from_text, to_text
from accelerate.metadata import TensorInfo
from accelerate.serve.open_inference import Server

MODELS = {
    "add3": odd_models.add3(),
    "two": odd_models.two_inputs(),
    "dynamic": odd_models.dynamic(),
    "strings": odd_models.strings(),
    "int32": odd_models.integers("int32"),
    "int64": odd_models.integers("int64"),
    "float16": odd_models.float16(),
    "boolean": odd_models.boolean(),
    "scalar": odd_models.scalar(),
    "uint8": odd_models.uint8_quantised(),
    "per_channel": odd_models.per_channel(),
    "labelled": labelled(),
    "failing": odd_models.failing(),
    "slow": odd_models.slow(0.5),
}
random = np.random.default_rng(17)
_PATIENCE = 120.0  # seconds: the tests' machine may have much else to do


@pytest.fixture(scope="module")
def local() -> Iterator[dict[str, accelerate.Model]]:
    models = {name: accelerate.load(content) for name, content in MODELS.items()}
    yield models
    for model in models.values():
        model.close()


@pytest.fixture(scope="module")
def server(local: dict[str, accelerate.Model]) -> Iterator[Server]:
    broken = accelerate.ModelError("broken.tflite is damaged", "convert it again")
    with Server({**local, "broken": broken}, port=0) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    with stock.InferenceServerClient(server.address) as one:
        yield one


@pytest.fixture(scope="module")
def ask(server: Server) -> Iterator[Callable[..., Any]]:
    """Call a method with and for messages, as a stub in another language does."""
    with grpc.insecure_channel(server.address) as channel:

        def call(method: str, timeout: float = _PATIENCE, **fields: Any) -> Any:
            stub = channel.unary_unary(
                f"/inference.GRPCInferenceService/{method}",
                lambda message: message.SerializeToString(),
                getattr(messages, f"{method}Response").FromString,
            )
            return stub(getattr(messages, f"{method}Request")(**fields), timeout=timeout)

        yield call


def refused(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


# What tritonclient, a stranger to this package, is told


def test_tritonclient_finds_server_and_models(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("two")
    about = client.get_server_metadata()
    assert (about.name, about.version) == ("edge-accelerate", accelerate.__version__)
    assert "system_shared_memory" in about.extensions
    two = client.get_model_metadata("two")
    assert [(t.name, t.datatype, list(t.shape)) for t in two.inputs] == [("a", "FP32", [2, 3]), ("b", "FP32", [2, 3])]
    assert [(t.name, t.datatype, list(t.shape)) for t in two.outputs] == [("sum", "FP32", [2, 3])]
    assert client.get_model_metadata("dynamic").inputs[0].shape[0] == -1
    config = client.get_model_config("two").config
    assert [(t.name, list(t.dims)) for t in config.input] == [("a", [2, 3]), ("b", [2, 3])]
    assert config.max_batch_size == 0


def test_tritonclient_gets_the_local_answers(client: Any, local: dict[str, accelerate.Model]) -> None:
    for name in ("add3", "two", "int32", "int64", "float16", "boolean", "scalar", "uint8", "dynamic"):
        metadata = local[name].metadata()
        feeds, given = {}, []
        for info in metadata.inputs:
            shape = [4 if n < 0 else n for n in info.shape]
            values = random.integers(0, 2 if info.data_type == "bool" else 100, shape)
            feeds[info.name] = np.asarray(values, info.data_type)
            datatype = next(t.datatype for t in client.get_model_metadata(name).inputs if t.name == info.name)
            given.append(stock.InferInput(info.name, shape, datatype))
            given[-1].set_data_from_numpy(feeds[info.name])
        wanted = local[name].infer(feeds)
        answer = client.infer(name, given)
        for output, array in wanted.items():
            got = answer.as_numpy(output)
            assert got.dtype == array.dtype
            np.testing.assert_array_equal(got, array, strict=True)


def test_strings_need_not_be_text(client: Any) -> None:
    words = np.array([b"\xff\x00", b"", "häuser".encode()], object)
    given = stock.InferInput("x", [3], "BYTES")
    given.set_data_from_numpy(words)
    assert client.infer("strings", [given]).as_numpy("y").tolist() == words[::-1].tolist()


def test_classes_with_labels(client: Any) -> None:
    given = stock.InferInput("image", [1, 1, 3], "UINT8")
    given.set_data_from_numpy(np.array([[[25, 75, 50]]], np.uint8))
    wanted = [stock.InferRequestedOutput("scores", class_count=2)]
    best = client.infer("labelled", [given], outputs=wanted).as_numpy("scores")
    assert [one.decode().split(":")[1:] for one in best.ravel().tolist()] == [["1", "green"], ["2", "blue"]]


def test_classes_of_a_batch(local: dict[str, accelerate.Model], tmp_path: Path) -> None:
    """Each row has its own where there are labels for it; else they are those of the whole tensor, as with Triton."""
    x = np.array([[25, 75, 50], [3, 2, 1]], np.float32)
    given = stock.InferInput("x", [2, 3], "FP32")
    given.set_data_from_numpy(x)
    wanted = [stock.InferRequestedOutput("y", class_count=2)]
    labels = tmp_path / "labels.txt"
    labels.write_text("red\ngreen\nblue\n")
    with accelerate.load(MODELS["dynamic"], label_path=labels) as named:
        models = {"named": named, "dynamic": local["dynamic"]}
        with Server(models, port=0) as server, stock.InferenceServerClient(server.address) as client:
            rows = client.infer("named", [given], outputs=wanted).as_numpy("y")
            whole = client.infer("dynamic", [given], outputs=wanted).as_numpy("y")
    assert [[one.decode().split(":")[1:] for one in row] for row in rows.tolist()] == [
        [["1", "green"], ["2", "blue"]],
        [["0", "red"], ["1", "green"]],
    ]
    assert [one.decode().split(":")[1:] for one in whole.tolist()] == [["1"], ["2"]]


def test_classes_of_bfloat16() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes", reason="has NumPy's bfloat16").bfloat16
    x = {"name": "x", "datatype": "BF16", "shape": [4]}
    y = {"name": "y", "parameters": {"classification": {"int64_param": 1}}}
    raw = np.array([1, 4, 2, 0], bfloat16).tobytes()
    request = messages.ModelInferRequest(model_name="b", inputs=[x], outputs=[y], raw_input_contents=[raw])
    with (
        accelerate.load(odd_models.bfloat16()) as model,
        Server({"b": model}, port=0) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        assert infer(request.SerializeToString(), timeout=_PATIENCE).endswith(b"4.000000:1")


def test_outputs_that_are_asked_for(client: Any, local: dict[str, accelerate.Model]) -> None:
    given = stock.InferInput("x", [3], "FP32")
    given.set_data_from_numpy(np.zeros(3, np.float32))
    answer = client.infer("add3", [given], outputs=[stock.InferRequestedOutput("y")], request_id="17")
    assert answer.get_response().id == "17"
    assert [o.name for o in answer.get_response().outputs] == ["y"]


def test_statistics(client: Any) -> None:
    def counts() -> tuple[int, int]:
        (one,) = client.get_inference_statistics("add3").model_stats
        return one.inference_stats.success.count, one.inference_stats.fail.count

    before = counts()
    given = stock.InferInput("x", [3], "FP32")
    given.set_data_from_numpy(np.zeros(3, np.float32))
    for _ in range(3):
        client.infer("add3", [given])
    wrong = stock.InferInput("x", [2, 2], "FP32")
    wrong.set_data_from_numpy(np.zeros((2, 2), np.float32))
    with pytest.raises(stock.InferenceServerException):
        client.infer("add3", [wrong])
    assert counts() == (before[0] + 3, before[1] + 1)
    assert len(client.get_inference_statistics().model_stats) == len(MODELS)


# This package's own client


@pytest.mark.parametrize("name", ["uint8", "per_channel", "labelled", "dynamic", "strings"])
def test_our_backend_shows_the_same_metadata(name: str, server: Server, local: dict[str, accelerate.Model]) -> None:
    with accelerate.load(f"triton://{server.address}/{name}") as model:
        assert model.metadata() == local[name].metadata()
        assert model.runtime.details["platform"] == "tflite_cpu cpu"


def test_other_text_than_ours_is_no_metadata(local: dict[str, accelerate.Model]) -> None:
    text = to_text(local["per_channel"].metadata())
    assert from_text(text) == local["per_channel"].metadata()
    for wrong in (
        "",
        "[]",
        "{}",
        "null",
        text[:-1],
        text.replace('"shape":[', '"shape":[-7,'),
        text.replace('"stateful":false', '"stateful":0'),
        text.replace('"scale":[', '"scale":[1.0,'),
        text.replace('"scale":[', '"scale":["1",'),
        "[" * 100_000,
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever its words
            from_text(wrong)


def test_metadata_of_other_tensors_is_not_believed(
    local: dict[str, accelerate.Model], caplog: pytest.LogCaptureFixture
) -> None:
    from accelerate.backends.triton.description import ModelDescription

    metadata = messages.ModelMetadataResponse(name="m", versions=["1"])
    metadata.inputs.add(name="x", datatype="FP32", shape=[3])
    metadata.outputs.add(name="y", datatype="FP32", shape=[3])
    config = messages.ModelConfig(name="m")
    for text in (to_text(local["two"].metadata()), "nonsense"):
        caplog.clear()
        config.parameters[PARAMETER].string_value = text
        assert ModelDescription.read("m", metadata, config).told is None
        assert len(caplog.records) == 1


# What is refused, and how


def _request(**changed: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "model_name": "add3",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [3]}],
        "raw_input_contents": [np.arange(3, dtype=np.float32).tobytes()],
    }
    return {**fields, **changed}


def test_contents_by_type(ask: Callable[..., Any]) -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [3], "contents": {"fp32_contents": [1, 2, 4]}}
    answer = ask("ModelInfer", model_name="add3", inputs=[x])
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [2, 4, 8]
    words = {"name": "x", "datatype": "BYTES", "shape": [3], "contents": {"bytes_contents": [b"a", b"", b"\xff"]}}
    answer = ask("ModelInfer", model_name="strings", inputs=[words])
    assert answer.raw_output_contents[0] == b"\1\0\0\0\xff\0\0\0\0\1\0\0\0a"


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"model_name": "nothing"}, "NOT_FOUND", "unknown model: 'nothing'"),
        ({"model_version": "2"}, "NOT_FOUND", "its only version is 1"),
        ({"model_name": "broken"}, "UNAVAILABLE", "broken.tflite is damaged; convert it again"),
        ({"inputs": []}, "INVALID_ARGUMENT", "raw contents"),
        ({"inputs": [], "raw_input_contents": []}, "INVALID_ARGUMENT", "missing input 'x'"),
        ({"raw_input_contents": []}, "INVALID_ARGUMENT", "no contents"),
        ({"raw_input_contents": [b"123"]}, "INVALID_ARGUMENT", "3 bytes"),
        ({"raw_input_contents": [b"", b""]}, "INVALID_ARGUMENT", "2 raw contents for 1 inputs"),
        ({"inputs": [{"name": "z", "datatype": "FP32", "shape": [3]}]}, "INVALID_ARGUMENT", "unexpected"),
        ({"inputs": [{"name": "x", "datatype": "INT32", "shape": [3]}]}, "INVALID_ARGUMENT", "wants 'FP32'"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-3]}]}, "INVALID_ARGUMENT", "impossible shape"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1, 3]}]}, "INVALID_ARGUMENT", "[1, 1, 3]"),
        (
            {
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [1 << 40, 0]}],
                "raw_input_contents": [b""],
            },
            "INVALID_ARGUMENT",
            "shape",
        ),
        ({"outputs": [{"name": "z"}]}, "INVALID_ARGUMENT", "unexpected inference output 'z'"),
        ({"outputs": [{"name": "y"}, {"name": "y"}]}, "INVALID_ARGUMENT", "twice"),
        ({"parameters": {"sequence_start": {"bool_param": True}}}, "INVALID_ARGUMENT", "state"),
        ({"parameters": {"sequence_id": {"int64_param": 7}}}, "INVALID_ARGUMENT", "state"),
        ({"parameters": {"sequence_id": {"string_param": "a"}}}, "INVALID_ARGUMENT", "state"),
        (
            {"outputs": [{"name": "y", "parameters": {"classification": {"string_param": "2"}}}]},
            "INVALID_ARGUMENT",
            "wanted int64_param",
        ),
        (
            {"outputs": [{"name": "y", "parameters": {"classification": {"int64_param": -1}}}]},
            "INVALID_ARGUMENT",
            "classification",
        ),
    ],
)
def test_wrong_requests(changed: dict[str, Any], status: str, said: str, ask: Callable[..., Any]) -> None:
    code, details = refused(lambda: ask("ModelInfer", **_request(**changed)))
    assert code == status
    assert said in details
    assert ask("ModelInfer", **_request()).raw_output_contents[0] == np.array([0, 2, 4], np.float32).tobytes()


@pytest.mark.parametrize("character", ["x", "%", "語", "😀", "\n"])
def test_a_reason_that_is_longer_than_a_header(character: str, ask: Callable[..., Any]) -> None:
    """Beyond gRPC's limit, the client would be told of that, and neither status nor reason."""
    code, details = refused(lambda: ask("ModelInfer", **_request(outputs=[{"name": character * 6000}])))
    assert code == "INVALID_ARGUMENT"
    assert details.startswith(f"unexpected inference output {character * 300!r}"[:300])
    assert details.endswith("...")


def test_strings_that_lie_about_their_lengths(ask: Callable[..., Any]) -> None:
    x = {"name": "x", "datatype": "BYTES", "shape": [3]}
    for content in (b"", b"\xff\xff\xff\xff" * 3, b"\0\0\0\0" * 4, b"\0\0\0\0" * 2 + b"\1\0\0\0"):
        code, _ = refused(lambda: ask("ModelInfer", model_name="strings", inputs=[x], raw_input_contents=[content]))  # noqa: B023
        assert code == "INVALID_ARGUMENT"


def test_messages_that_are_none(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        for _ in range(200):
            code, _ = refused(lambda: infer(random.bytes(int(random.integers(1, 200))), timeout=_PATIENCE))
            assert code in ("INVALID_ARGUMENT", "NOT_FOUND")
        code, _ = refused(lambda: channel.unary_unary("/inference.GRPCInferenceService/TraceSetting", None, None)(b""))
        assert code == "UNIMPLEMENTED"


def test_damaged_requests(server: Server) -> None:
    whole = messages.ModelInferRequest(**_request(outputs=[{"name": "y"}], id="17")).SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        for _ in range(400):
            damaged, at = bytearray(whole), int(random.integers(len(whole)))
            if random.random() < 0.5:
                damaged[at] ^= 1 << int(random.integers(8))
            else:
                damaged[at : at + int(random.integers(3))] = random.bytes(int(random.integers(3)))
            try:
                infer(bytes(damaged), timeout=_PATIENCE)
            except grpc.RpcError as error:
                assert error.code().name in ("INVALID_ARGUMENT", "NOT_FOUND"), (error.details(), bytes(damaged))  # noqa: PT017
        assert infer(whole, timeout=_PATIENCE)


def test_what_the_runtime_reports(ask: Callable[..., Any]) -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [3], "contents": {"fp32_contents": [9, 9, 9]}}
    code, details = refused(lambda: ask("ModelInfer", model_name="failing", inputs=[x]))
    assert code == "INTERNAL"
    assert "failed" in details


class Mistaken(RuntimeModel):
    """A model of a stranger's backend, which has a mistake."""

    def execute(self, feeds: list[Array]) -> list[Array]:
        raise RuntimeError("no")

    def translate(self, error: Exception) -> accelerate.AccelerateError:
        raise ZeroDivisionError("a mistake")


def test_what_nobody_expected_is_logged_where_it_came_from(caplog: pytest.LogCaptureFixture) -> None:
    x = TensorInfo("x", shape=(3,), data_type="float32")
    with (
        Mistaken("strange", [x], [x], RuntimeInfo("strange", "1", "cpu"), LoadOptions()) as model,
        Server({"m": model}, port=0) as server,
        stock.InferenceServerClient(server.address) as client,
    ):
        given = stock.InferInput("x", [3], "FP32")
        given.set_data_from_numpy(np.ones(3, np.float32))
        with pytest.raises(stock.InferenceServerException, match="ZeroDivisionError: a mistake"):
            client.infer("m", [given])
        assert client.get_inference_statistics("m").model_stats[0].inference_stats.fail.count == 1
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "translate" in caplog.text


def test_a_model_that_could_not_be_loaded(client: Any, ask: Callable[..., Any]) -> None:
    assert not client.is_model_ready("broken")
    (row,) = (one for one in ask("RepositoryIndex").models if one.name == "broken")
    assert row.state == "UNAVAILABLE"
    assert "damaged" in row.reason


def test_a_message_over_the_bound(local: dict[str, accelerate.Model]) -> None:
    with (
        Server({"dynamic": local["dynamic"]}, port=0, largest_message=1 << 20) as small,
        accelerate.load(f"triton://{small.address}/dynamic", shared_memory="none") as model,
    ):
        shape = [n if n > 0 else 1 << 18 for n in model.metadata().inputs[0].shape]
        with pytest.raises(accelerate.ServerError, match="raise the limit of 1048576 bytes"):
            model.infer(np.zeros(shape, np.float32))
        shape[0] = 2
        assert model.infer(np.ones(shape, np.float32))


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "x" * 201])
def test_impossible_names(name: str, local: dict[str, accelerate.Model]) -> None:
    with pytest.raises(accelerate.OptionError, match="no name of a model"):
        Server({name: local["add3"]}, port=0)


def test_models_that_cannot_be_served() -> None:
    for content, why in ((odd_models.counting(), "keeps values"), (odd_models.complex64(), "complex64")):
        with accelerate.load(content) as model, pytest.raises(accelerate.UnsupportedModelError, match=why):
            Server({"model": model}, port=0)


# Deadlines


def test_a_deadline_is_kept_and_later_calls_are_answered(server: Server, ask: Callable[..., Any]) -> None:
    x = {"name": "x", "datatype": "FP32", "shape": _slow_shape(ask)}
    raw = _ones(x)
    code, _ = refused(lambda: ask("ModelInfer", 0.05, model_name="slow", inputs=[x], raw_input_contents=[raw]))
    assert code == "DEADLINE_EXCEEDED"
    assert ask("ModelInfer", _PATIENCE, model_name="slow", inputs=[x], raw_input_contents=[raw]).raw_output_contents


def test_calls_that_are_given_up_while_they_wait_are_never_made(server: Server, ask: Callable[..., Any]) -> None:
    """Ten calls of half a second wait behind one; nine are cancelled, and the tenth does not wait for them."""
    x = {"name": "x", "datatype": "FP32", "shape": _slow_shape(ask)}
    message = messages.ModelInferRequest(
        model_name="slow", inputs=[x], raw_input_contents=[_ones(x)]
    ).SerializeToString()

    def executed() -> int:
        count: int = ask("ModelStatistics", name="slow").model_stats[0].execution_count
        return count

    before = executed()
    with grpc.insecure_channel(server.address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        first = infer.future(message, timeout=_PATIENCE)
        while not server.busy and not first.done():
            time.sleep(0.001)
        given_up = [infer.future(message, timeout=_PATIENCE) for _ in range(9)]
        last = infer.future(message, timeout=_PATIENCE)
        time.sleep(0.05)
        for one in given_up:
            one.cancel()
        while server.busy > 2 and not first.done():
            time.sleep(0.001)
        assert not first.done()  # they left at once, and did not wait for their turn
        assert first.result()
        assert last.result()
    assert executed() == before + 2


def _ones(x: dict[str, Any]) -> bytes:
    return np.ones(x["shape"], np.float32).tobytes()


def _slow_shape(ask: Callable[..., Any]) -> list[int]:
    return list(ask("ModelMetadata", name="slow").inputs[0].shape)


def test_cancelling_ends_a_run_where_the_runtime_can() -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra: onnxruntime")
    odd_onnx = pytest.importorskip("odd_onnx", reason="onnx builds the models")
    with accelerate.load(odd_onnx.slow(6), num_threads=1) as model:
        info = model.metadata().inputs[0]
        with Server({"slow": model}, port=0) as running, grpc.insecure_channel(running.address) as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
            request = messages.ModelInferRequest(model_name="slow")
            request.inputs.add(name=info.name, datatype="FP32", shape=info.shape)
            request.raw_input_contents.append(np.ones(info.shape, np.float32).tobytes())
            call = infer.future(request.SerializeToString(), timeout=_PATIENCE)
            while not running.busy:
                time.sleep(0.001)
            time.sleep(0.2)
            started = time.monotonic()
            call.cancel()
            while running.busy and time.monotonic() - started < 30:
                time.sleep(0.005)
            assert time.monotonic() - started < 4  # of 6 seconds or more


@pytest.mark.parametrize("memory", ["system", "none"])
@pytest.mark.parametrize("calls", [40, pytest.param(500, marks=pytest.mark.long)])
def test_eight_callers(memory: str, calls: int, server: Server, local: dict[str, accelerate.Model]) -> None:
    wrong: list[object] = []

    def work(seed: int) -> None:
        own = np.random.default_rng(seed)
        try:
            with accelerate.load(f"triton://{server.address}/two", shared_memory=memory) as model:
                for _ in range(calls):
                    a, b = own.random((2, 2, 3), np.float32)
                    if not np.array_equal(model.infer({"a": a, "b": b})["sum"], a + b):
                        wrong.append(seed)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
