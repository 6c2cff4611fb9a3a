"""One interface over the accelerators of an edge machine.

>>> import accelerate
>>> with accelerate.load("detector.tflite", backend="auto") as model:  # doctest: +SKIP
...     print(model.metadata())
...     outputs = model.infer({"image": frame}, timeout=0.5)
"""

import logging as _logging
import os as _os
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from ._collision import collision as _collision

if _message := _collision(_os.path.dirname(_os.path.dirname(_os.path.abspath(__file__)))):
    raise ImportError(_message)

from ._version import __version__
from .api import list_backends, list_devices, load, plan
from .calls.binding import Binding
from .calls.pixels import AssumptionWarning
from .contract import Backend
from .environment import start_log as _start_log
from .errors import (
    AccelerateError,
    BackendNotAvailableError,
    ClosedError,
    DeviceLostError,
    DeviceNotFoundError,
    InferenceError,
    InferenceTimeoutError,
    ModelError,
    ModelNotFoundError,
    NoBackendError,
    OptionError,
    ServerError,
    TensorError,
    UnsupportedModelError,
)
from .mapping import map
from .metadata import AssociatedFile, Metadata, Normalization, Quantization, TensorInfo
from .model import Model
from .reports import Availability, BackendInfo, Candidate, Device, LoadOptions, Match, Plan, RuntimeInfo
from .source import Source

if _TYPE_CHECKING:
    from . import image as image
    from . import services as services
    from . import testing as testing
    from . import vision as vision
    from .services import load_services as load_services
    from .tuning import Tuning as Tuning
    from .tuning import TuningResult as TuningResult
    from .tuning import tune as tune

if not _TYPE_CHECKING:  # type checkers take the line above, and know what there is not

    def __getattr__(name: str) -> _Any:
        """Import what most programs do without when they name it: ``accelerate.image``, ``accelerate.vision``, ..."""
        if name in ("image", "services", "testing", "vision"):
            from importlib import import_module

            return import_module(f".{name}", __name__)
        if name == "load_services":
            from .services import load_services

            return load_services
        if name in ("Tuning", "TuningResult", "tune"):
            from . import tuning

            return getattr(tuning, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_logging.getLogger("accelerate").addHandler(_logging.NullHandler())  # quiet, unless the program asks for messages
_start_log()  # or who runs it, by a variable of the environment

__all__ = [
    "AccelerateError",
    "AssociatedFile",
    "AssumptionWarning",
    "Availability",
    "Backend",
    "BackendInfo",
    "BackendNotAvailableError",
    "Binding",
    "Candidate",
    "ClosedError",
    "Device",
    "DeviceLostError",
    "DeviceNotFoundError",
    "InferenceError",
    "InferenceTimeoutError",
    "LoadOptions",
    "Match",
    "Metadata",
    "Model",
    "ModelError",
    "ModelNotFoundError",
    "NoBackendError",
    "Normalization",
    "OptionError",
    "Plan",
    "Quantization",
    "RuntimeInfo",
    "ServerError",
    "Source",
    "TensorError",
    "TensorInfo",
    "Tuning",
    "TuningResult",
    "UnsupportedModelError",
    "__version__",
    "list_backends",
    "list_devices",
    "load",
    "load_services",
    "map",
    "plan",
    "tune",
]
