"""Print the objects that a camera sees, one line each.

It needs the extras vision and litert or onnxruntime. Detector and video are yours; a picture is a video of one frame.

$ python examples/camera.py detector.tflite cat.avi    # 0 is the first camera
on cpu by tflite_cpu (LiteRT 2.3.0)
cat 0.72 at 45,43 to 371,330
cat 0.73 at 45,43 to 371,330
"""

from __future__ import annotations

import argparse
import sys

import cv2

import accelerate
from accelerate.vision import Detector


def main() -> None:
    """Read frames until the camera ends, and print what is in them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a detector, such as detector.tflite or detector.onnx")
    parser.add_argument("camera", nargs="?", default="0", help="a number, a video file or a stream's URL")
    arguments = parser.parse_args()

    camera = cv2.VideoCapture(int(arguments.camera) if arguments.camera.isdecimal() else arguments.camera)
    if not camera.isOpened():
        sys.exit(f"the camera {arguments.camera} cannot be opened")
    try:
        with accelerate.load(arguments.model) as model:
            print(f"on {model.device} by {model.backend} ({model.runtime.name} {model.runtime.version})")
            detect = Detector(model, min_score=0.5)
            while True:
                ok, frame = camera.read()
                if not ok:
                    break
                try:
                    objects = detect(frame, color="BGR", timeout=0.5)
                except accelerate.InferenceTimeoutError as late:  # this frame is lost, the next may be in time
                    print(late, file=sys.stderr)
                    continue
                for found in objects:  # best first, boxes in the frame's pixels
                    xmin, ymin, xmax, ymax = found.box
                    print(f"{found.label} {found.score:.2f} at {xmin:.0f},{ymin:.0f} to {xmax:.0f},{ymax:.0f}")
    except accelerate.AccelerateError as error:
        sys.exit(str(error))  # what is wrong, and what to do
    finally:
        camera.release()


if __name__ == "__main__":
    main()
