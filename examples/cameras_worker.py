"""Several cameras and a detector process, as in a video recorder: frames by shared memory, objects by a pipe.

$ python examples/cameras_worker.py detector.tflite cat.avi parrot.avi    # yours; needs litert, vision
cat.avi: cat 0.72
parrot.avi: bird 0.81
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.connection import Connection
from typing import Any

import cv2
import numpy as np

import accelerate
from accelerate.vision import Detector


def detect_for(line: Connection, memory: Any, path: str) -> None:
    """Answer the shape of each frame that lies in the memory with what is in it."""
    try:  # the model is in a child of its own: a crash of its runtime does not end the detector
        with accelerate.load(path, isolation="process", failover=["tflite_cpu"]) as model:
            detect = Detector(model, min_score=0.5)
            while (shape := line.recv()) is not None:
                frame = np.frombuffer(memory, np.uint8, int(np.prod(shape))).reshape(shape)
                line.send([f"{found.label} {found.score:.2f}" for found in detect(frame, color="BGR", timeout=5)])
    except (accelerate.AccelerateError, EOFError) as error:  # EOFError: the main process was killed
        sys.exit(str(error))


def main(path: str, *sources: str) -> None:
    """Read the cameras in turn, and print what the detector finds."""
    spawn = multiprocessing.get_context("spawn")
    memory = spawn.RawArray("B", 3840 * 2160 * 3)  # the largest frame's bytes
    line, its_end = spawn.Pipe()
    spawn.Process(target=detect_for, args=(its_end, memory, path)).start()
    its_end.close()  # the detector has its own: when that is gone, `recv` tells
    cameras = {source: cv2.VideoCapture(source) for source in sources}
    try:
        while cameras:
            for name, camera in list(cameras.items()):
                ok, frame = camera.read()
                if not ok:
                    del cameras[name]
                    continue
                np.frombuffer(memory, np.uint8)[: frame.size] = frame.ravel()
                line.send(frame.shape)
                print(f"{name}: {', '.join(line.recv())}")
        line.send(None)
    except (EOFError, OSError):  # it has said why
        sys.exit("the detector has ended")


if __name__ == "__main__":
    main(*sys.argv[1:])
