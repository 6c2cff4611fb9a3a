"""Calls of a served model that wait for their turn, of clients that give no deadline and of those that give up."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="needs the extra: serve")
pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")

import grpc
import odd_models
import tritonclient.grpc as stock

import accelerate
from accelerate.formats.open_inference import messages
from accelerate.serve.open_inference import Server
from accelerate.serve.open_inference.places import Shares

WAYS: Mapping[str, Mapping[str, Any]] = {
    "here": {},
    "replicas": {"replicas": 2},
    "isolation": {"isolation": "process"},
    "failover": {"failover": [{"source": odd_models.add3()}]},
}


@pytest.mark.parametrize("way", WAYS)
def test_threads_of_tritonclient_that_give_no_timeout(way: str) -> None:
    """What most programs write, and what gRPC tells a server of as a deadline in 292 billion years."""
    answers: list[object] = []

    def work(client: Any, number: int) -> None:
        given = stock.InferInput("x", [3], "FP32")
        given.set_data_from_numpy(np.full(3, number, np.float32))
        try:
            ready.wait()
            for _ in range(20):
                answer = client.infer("add3", [given]).as_numpy("y")
                answers.append(answer.tolist() == [2 * number] * 3)
        except Exception as error:
            answers.append(str(error))

    with (
        accelerate.load(odd_models.add3(), **WAYS[way]) as model,
        Server({"add3": model}, port=0) as server,
        stock.InferenceServerClient(server.address) as client,
    ):
        threads = [threading.Thread(target=work, args=(client, number)) for number in range(6)]
        ready = threading.Barrier(len(threads))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [answer for answer in answers if answer is not True] == []
    assert len(answers) == 120


def test_more_calls_than_there_is_room_for() -> None:
    """They are refused, and the callers of one model leave room for another's."""
    with (
        accelerate.load(odd_models.slow(0.5)) as slow,
        accelerate.load(odd_models.add3()) as add3,
        Server({"slow": slow, "add3": add3}, port=0) as server,
        stock.InferenceServerClient(server.address) as client,
        grpc.insecure_channel(server.address) as channel,
    ):
        shape = slow.metadata().inputs[0].shape
        request = messages.ModelInferRequest(
            model_name="slow",
            inputs=[{"name": "x", "datatype": "FP32", "shape": shape}],
            raw_input_contents=[np.ones(shape, np.float32).tobytes()],
        )
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)
        calls = [infer.future(request.SerializeToString(), timeout=120) for _ in range(80)]
        refused = grpc.StatusCode.RESOURCE_EXHAUSTED
        while sum(one.done() and one.code() is refused for one in calls) < 80 - 48 - 3:
            time.sleep(0.01)
        assert client.is_server_live()  # while all of them wait
        given = stock.InferInput("x", [3], "FP32")
        given.set_data_from_numpy(np.ones(3, np.float32))
        assert client.infer("add3", [given]).as_numpy("y").tolist() == [2, 2, 2]
        assert server.busy >= 40
        codes = {one.code() for one in calls if one.done()}
        for one in calls:
            one.cancel()
    assert codes <= {refused, grpc.StatusCode.OK}


@pytest.mark.parametrize("models", [1, 2, 5, 100])
def test_the_room_is_shared(models: int) -> None:
    names = [str(number) for number in range(models)]
    own = 32 // models
    shares = Shares(64, names)
    assert sum(shares.take("0") for _ in range(100)) == 64 - own * (models - 1)
    for name in names[1:]:
        assert sum(shares.take(name) for _ in range(100)) == own
    assert shares.taken == 64
    shares.give("0")
    assert shares.take(names[-1])  # what is no model's own
    assert not shares.take("0")
