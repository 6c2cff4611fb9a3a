"""Calls of a served model that wait for their turn, of clients that give no deadline and of those that give up."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="needs the extra: serve")
pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")

import odd_models
import tritonclient.grpc as stock

import accelerate
from accelerate.serve.open_inference import Server

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
            answers.append(error)

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
    assert answers == [True] * 120
