"""The vision service of the module: accelerate.vision behind Viam's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from typing_extensions import Self
from viam.media.video import ViamImage
from viam.proto.app.robot import ComponentConfig
from viam.proto.service.vision import Classification, Detection
from viam.services.mlmodel import MLModel
from viam.services.vision import CaptureAllResult, Vision

from ... import api
from ...calls.deadlines import check_left, deadline, left
from ...errors import ClosedError, OptionError, TensorError
from ...vision import Classifications, Classifier, Detections, Detector
from .description import with_scales
from .local import LocalMLModel
from .pictures import frame_of, is_picture, labelled
from .resources import Dependencies, Host
from .rpc import answering
from .threads import in_thread
from .vision_attributes import VisionAttributes

__all__ = ["VisionService"]

# what takes the time, and what to do
_LATE = ("preparing the picture", "give a longer timeout, or a smaller picture")


class VisionService(Vision):
    """Finds objects, or tells classes, in pictures and on cameras, by the answers of an ML model service.

    One of this module is called in process, another one through the machine.
    """

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__(config.name)
        self._attributes = VisionAttributes.read(config)
        self._host: Host | None = None
        self._found: tuple[MLModel, LocalMLModel, Detector | Classifier] | None = None
        self._finding = asyncio.Lock()

    @classmethod
    def new(cls, config: ComponentConfig, dependencies: Dependencies) -> Self:
        """Return the service; `start` looks at the model."""
        return cls(config)

    @classmethod
    def validate_config(cls, config: ComponentConfig) -> tuple[Sequence[str], Sequence[str]]:
        """Check the attributes, and name model and camera as dependencies."""
        attributes = VisionAttributes.read(config)
        return [attributes.mlmodel_name, *([attributes.camera_name] if attributes.camera_name else [])], []

    async def start(self, host: Host) -> None:
        """Find the model, and what its outputs hold.

        Raises
        ------
        AccelerateError
        """
        self._host = host
        await self._task(None)

    async def get_detections(
        self, image: ViamImage, *, extra: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> list[Detection]:
        """Return the objects in a picture, best first."""
        with answering():
            return await self._detections(image.data, deadline(timeout), timeout)

    async def get_detections_from_camera(
        self, camera_name: str, *, extra: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> list[Detection]:
        """Return the objects in a camera's next picture; "" is the camera of the attributes."""
        with answering():
            until = deadline(timeout)
            return await self._detections((await self._image(camera_name, until)).data, until, timeout)

    async def get_classifications(
        self, image: ViamImage, count: int, *, extra: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> list[Classification]:
        """Return the classes of a picture, best first; all for a count of 0."""
        with answering():
            return await self._classifications(image.data, count, deadline(timeout), timeout)

    async def get_classifications_from_camera(
        self, camera_name: str, count: int, *, extra: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> list[Classification]:
        """Return the classes of a camera's next picture."""
        with answering():
            until = deadline(timeout)
            return await self._classifications((await self._image(camera_name, until)).data, count, until, timeout)

    async def capture_all_from_camera(
        self,
        camera_name: str,
        return_image: bool = False,
        return_classifications: bool = False,
        return_detections: bool = False,
        return_object_point_clouds: bool = False,
        return_detections_3d: bool = False,
        *,
        extra: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> CaptureAllResult:
        """Return a camera's next picture with what is in it; what the model does not tell stays None, as in Viam."""
        with answering():
            until = deadline(timeout)
            image = await self._image(camera_name, until)
            _, task = await self._task(left(until))
            found = CaptureAllResult(image=labelled(image) if return_image else None)
            if return_detections and isinstance(task, Detector):
                found.detections = await self._detections(image.data, until, timeout)
            if return_classifications and isinstance(task, Classifier):
                found.classifications = await self._classifications(image.data, 0, until, timeout)
            return found

    async def get_object_point_clouds(
        self, camera_name: str, *, extra: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> list[Any]:
        """Raise: there are no models of point clouds."""
        with answering():
            raise NotImplementedError(f"vision service {self.name!r} finds no objects in point clouds")

    async def get_detections_3d(
        self, camera_name: str, *, extra: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> list[Any]:
        """Raise: there are no models of point clouds."""
        with answering():
            raise NotImplementedError(f"vision service {self.name!r} finds no objects in three dimensions")

    async def get_properties(
        self, *, extra: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Vision.Properties:
        """Return what the model is for."""
        with answering():
            _, task = await self._task(timeout)
            return Vision.Properties(
                classifications_supported=isinstance(task, Classifier),
                detections_supported=isinstance(task, Detector),
                object_point_clouds_supported=False,
                detections_3d_supported=False,
                default_camera=self._attributes.camera_name or None,
            )

    async def do_command(
        self, command: Mapping[str, Any], *, timeout: float | None = None, **_: Any
    ) -> Mapping[str, Any]:
        """Do what the model's `do_command` does."""
        with answering():
            until = deadline(timeout)
            model, _task = await self._task(timeout)
            return await model.do_command(command, timeout=left(until))

    async def get_status(self, *, timeout: float | None = None, **_: Any) -> Mapping[str, Any]:
        """Return the model's status, and what its outputs hold."""
        with answering():
            until = deadline(timeout)
            model, task = await self._task(timeout)
            status = await model.get_status(timeout=left(until))
            return {**status, "task": type(task).__name__, "layout": str(task.layout or "not known yet")}

    # How a picture goes

    async def _detections(self, data: bytes, until: float | None, timeout: float | None) -> list[Detection]:
        found, (height, width) = await self._answer(data, Detector, until, timeout)
        assert isinstance(found, Detections)
        return [_detection(one.label, one.score, one.box, width, height) for one in found]

    async def _classifications(
        self, data: bytes, count: int, until: float | None, timeout: float | None
    ) -> list[Classification]:
        found, _ = await self._answer(data, Classifier, until, timeout)
        assert isinstance(found, Classifications)
        wanted = [
            Classification(class_name=one.label, confidence=one.score)
            for one in found
            if self._attributes.wants(one.label, one.score)
        ]
        return wanted[:count] if count > 0 else wanted

    async def _answer(
        self, data: bytes, kind: type, until: float | None, timeout: float | None
    ) -> tuple[Detections | Classifications, tuple[int, int]]:
        for attempt in range(2):
            model, task = await self._task(left(until))
            if not isinstance(task, kind):
                raise NotImplementedError(
                    f"the model of {self._attributes.mlmodel_name!r} is for a {type(task).__name__}, not a "
                    f"{kind.__name__}"
                )
            feeds, geometry = await in_thread(partial(_prepared, task, data))
            check_left(until, timeout, *_LATE)
            try:
                outputs = await model.call(feeds, left(until))
            except ClosedError:
                if attempt:
                    raise
                continue  # another one has taken its place meanwhile
            return await in_thread(partial(task.decode, outputs, geometry)), geometry.frame_size
        raise AssertionError("the second attempt returns or raises")

    async def _image(self, name: str, until: float | None) -> ViamImage:
        wanted = name or self._attributes.camera_name
        if not wanted:
            raise OptionError("there is no camera's name in the call", "give one, or the attribute camera_name")
        assert self._host is not None, "the module starts what it serves"
        camera = await self._host.camera(wanted)
        images, _ = await camera.get_images(timeout=left(until))
        image: ViamImage | None = next((one for one in images if is_picture(one.data)), None)
        if image is None:
            raise TensorError(f"camera {wanted!r} gave {len(images)} images, none of them a picture of colours")
        return image

    async def _task(self, timeout: float | None) -> tuple[LocalMLModel, Detector | Classifier]:
        """Return the model as it is now, and what its answers are decoded by."""
        assert self._host is not None, "the module starts what it serves"
        mlmodel = await self._host.mlmodel(self._attributes.mlmodel_name)
        if self._found is not None and self._found[0] is mlmodel:
            return self._found[1:]
        async with self._finding:
            if self._found is not None and self._found[0] is mlmodel:
                return self._found[1:]
            local = mlmodel if isinstance(mlmodel, LocalMLModel) else await self._remote(mlmodel)
            try:
                _, metadata = await local.model_within(timeout)
                if local is not mlmodel:
                    metadata = with_scales(metadata)
                task = await in_thread(lambda: self._attributes.task(metadata))
            except BaseException:
                if local is not mlmodel:
                    await local.close()
                raise
            before, self._found = self._found, (mlmodel, local, task)
        if before is not None and before[0] is not before[1]:
            await before[1].close()
        return local, task

    async def _remote(self, mlmodel: MLModel) -> LocalMLModel:
        """Return a model that runs elsewhere on the machine."""
        model = await in_thread(lambda: api.load(mlmodel, backend="viam"))
        return LocalMLModel(self._attributes.mlmodel_name, model)

    async def close(self) -> None:
        """Let go of what this service has opened."""
        found, self._found = self._found, None
        if found is not None and found[0] is not found[1]:
            await found[1].close()


def _prepared(task: Detector | Classifier, data: bytes) -> tuple[dict[str, Any], Any]:
    frame, color = frame_of(data)
    try:
        return task.prepare(frame, color=color)
    except OptionError as error:  # bytes that are no picture
        raise TensorError(error.reason, error.remedy) from error


def _detection(label: str, score: float, box: Sequence[float], width: int, height: int) -> Detection:
    """Return an object of a frame in the protocol's form; its pixels are whole ones."""
    xmin, ymin, xmax, ymax = box
    return Detection(
        class_name=label,
        confidence=score,
        x_min=round(xmin),
        y_min=round(ymin),
        x_max=round(xmax),
        y_max=round(ymax),
        x_min_normalized=xmin / width,
        y_min_normalized=ymin / height,
        x_max_normalized=xmax / width,
        y_max_normalized=ymax / height,
    )
