"""The module's vision service: the same answers as accelerate.vision gives, through the SDK's VisionClient."""

from __future__ import annotations

import asyncio
import struct
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import odd_models
import pytest

pytest.importorskip("viam", reason="needs the extra: viam")
pytest.importorskip("ai_edge_litert", reason="needs the extra: litert")
pytest.importorskip("PIL.Image", reason="needs the extra: cli")

from conftest import ROOT, find_models
from grpclib import GRPCError, Status
from PIL import Image
from viam.components.camera import Camera
from viam.media.video import CameraMimeType, NamedImage, ViamImage
from viam.proto.common import DoCommandRequest, ResponseMetadata
from viam.rpc.server import Server
from viam.services.generic.client import GenericClient
from viam.services.mlmodel import MLModel
from viam.services.vision import VisionClient
from viam_module import DIGITS, GENERIC, MLMODEL, VISION, RunningModule, config, running_module
from vision_models import ssd

import accelerate
from accelerate.serve.viam import LocalMLModel
from accelerate.serve.viam.vision_attributes import VisionAttributes
from accelerate.vision import Classifier, Detector

# here the models' own metadata leave open what the module's log tells once
pytestmark = pytest.mark.filterwarnings("ignore::accelerate.AssumptionWarning")

DIGIT = (ROOT / "accelerate" / "data" / "digit.png").read_bytes()
MODELS = find_models() or Path("no models here")
IMAGES = MODELS.parent / "images"
AUTO, VISION_MODEL = "edge-accelerate:mlmodel:auto", "edge-accelerate:vision:mlmodel"
NAMES = ("location", "category", "score", "number of detections")


def picture(data: bytes) -> ViamImage:
    """Return a picture of which the SDK's client knows a size; it calls every one a JPEG."""
    image = ViamImage(data, CameraMimeType.CUSTOM("image/unknown"))
    image._width, image._height = 88, 160  # of no picture here
    return image


def frame() -> Any:
    return np.random.default_rng(3).integers(0, 256, (40, 60, 3), np.uint8)


def as_png(pixels: Any) -> bytes:
    import io

    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def as_rgba(pixels: Any) -> bytes:
    height, width, _ = pixels.shape
    alpha = np.full((height, width, 1), 255, np.uint8)
    return b"RGBA" + struct.pack(">II", width, height) + np.concatenate((pixels, alpha), axis=2).tobytes()


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a detector with known boxes and labels beside it."""
    folder = tmp_path_factory.mktemp("detector")
    (folder / "detector.tflite").write_bytes(ssd(NAMES, (0, 1, 2, 3))[0])
    (folder / "labels.txt").write_text("\n".join(f"thing {i}" for i in range(20)))
    return folder / "detector.tflite"


async def refused(call: Any) -> tuple[Status, str]:
    with pytest.raises(GRPCError) as refusal:
        await call
    return refusal.value.status, str(refusal.value.message)


def same_objects(found: Sequence[Any], wanted: Any, size: tuple[int, int]) -> None:
    height, width = size
    assert [one.class_name for one in found] == list(wanted.labels)
    np.testing.assert_allclose([one.confidence for one in found], wanted.scores, rtol=1e-6)
    for one, box in zip(found, wanted.boxes, strict=True):
        assert [one.x_min, one.y_min, one.x_max, one.y_max] == [round(float(x)) for x in box]
        shares = [one.x_min_normalized, one.y_min_normalized, one.x_max_normalized, one.y_max_normalized]
        np.testing.assert_allclose(shares, box / (width, height, width, height), atol=1e-6)


async def vision(module: RunningModule, model: Path, attributes: dict[str, Any], **more: Any) -> VisionClient:
    await module.add(MLMODEL, AUTO, "model", {"model_path": str(model), **more})
    await module.add(VISION, VISION_MODEL, "vision", {"mlmodel_name": "model", **attributes})
    return VisionClient("vision", module.channel)


def test_classes_of_pictures() -> None:
    async def program() -> None:
        async with running_module() as module:
            client = await vision(module, DIGITS, {})
            with accelerate.load(DIGITS) as model:
                wanted = Classifier(model)(DIGIT)
            found = await client.get_classifications(picture(DIGIT), 3)
            assert [one.class_name for one in found] == list(wanted.labels[:3])
            np.testing.assert_allclose([one.confidence for one in found], wanted.scores[:3])
            properties = await client.get_properties()
            assert (properties.classifications_supported, properties.detections_supported) == (True, False)
            assert not properties.object_point_clouds_supported
            assert not properties.HasField("default_camera")
            status, said = await refused(client.get_detections(picture(DIGIT)))
            assert (status, said) == (Status.UNIMPLEMENTED, "the model of 'model' is for a Classifier, not a Detector")
            for call in (client.get_object_point_clouds("camera"), client.get_detections_3d("camera")):
                assert (await refused(call))[0] is Status.UNIMPLEMENTED
            for data in (b"", b"\xff\xd8\xff\xff\xff", b"no picture", DIGIT[:60], b"RGBA1", b"DEPTHMAP" + bytes(16)):
                assert (await refused(client.get_classifications(picture(data), 1)))[0] is Status.INVALID_ARGUMENT
            assert (await client.do_command({"command": "stats"}))["calls"] == 1
            assert (await client.get_status())["task"] == "Classifier"
            # label_confidences: others go, in any spelling; the minimum does not count
            best = str(wanted.labels[0])
            only = {"mlmodel_name": "model", "label_confidences": {best.upper(): 0.1}, "default_minimum_confidence": 1}
            await module.reconfigure(VISION, VISION_MODEL, "vision", only)
            assert [one.class_name for one in await client.get_classifications(picture(DIGIT), 9)] == [best]
            # a rebuilt model is found again
            await module.reconfigure(
                MLMODEL, AUTO, "model", {"model_path": str(DIGITS.with_name("digits_float.tflite"))}
            )
            assert [one.class_name for one in await client.get_classifications(picture(DIGIT), 9)] == [best]

    asyncio.run(program())


def test_objects_of_pictures(detector: Path) -> None:
    async def program() -> None:
        labels = str(detector.with_name("labels.txt"))
        async with running_module() as module:
            client = await vision(module, detector, {}, label_path=labels)
            with accelerate.load(detector, label_path=labels) as model:
                wanted = Detector(model, clip=True)(frame())
            assert len(wanted) == 3
            for data in (as_png(frame()), as_rgba(frame())):  # the size of neither is what the client says
                same_objects(await client.get_detections(picture(data)), wanted, (40, 60))
            properties = await client.get_properties()
            assert (properties.classifications_supported, properties.detections_supported) == (False, True)
            least = float(wanted.scores[1])
            attributes = {"mlmodel_name": "model", "default_minimum_confidence": least}
            await module.reconfigure(VISION, VISION_MODEL, "vision", attributes)
            same_objects(await client.get_detections(picture(as_png(frame()))), wanted[:2], (40, 60))
            attributes = {"mlmodel_name": "model", "label_confidences": {str(wanted.labels[2]).upper(): 0.1}}
            await module.reconfigure(VISION, VISION_MODEL, "vision", attributes)
            same_objects(await client.get_detections(picture(as_png(frame()))), wanted[2:], (40, 60))

    asyncio.run(program())


@pytest.mark.slow
def test_pictures_beside_rebuilds_of_the_model() -> None:
    async def program() -> None:
        async with running_module() as module:
            client = await vision(module, DIGITS, {})
            (wanted,) = await client.get_classifications(picture(DIGIT), 1)

            async def calls() -> None:
                for _ in range(50):
                    (found,) = await client.get_classifications(picture(DIGIT), 1, timeout=10)
                    assert found == wanted

            clients = [asyncio.create_task(calls()) for _ in range(4)]
            for _ in range(5):
                await module.reconfigure(MLMODEL, AUTO, "model", {"model_path": str(DIGITS)})
                await asyncio.sleep(0.05)
            await asyncio.gather(*clients)

    asyncio.run(program())


class Eye(Camera):
    """A camera that calls every picture a JPEG."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(name)
        self.data = data

    async def get_images(self, **_: Any) -> Any:
        depths = NamedImage("depth", b"DEPTHMAP" + bytes(16), CameraMimeType.VIAM_RAW_DEPTH)
        return [depths, NamedImage("color", self.data, CameraMimeType.JPEG)], ResponseMetadata()

    async def get_point_cloud(self, **_: Any) -> Any:
        raise NotImplementedError

    async def get_properties(self, **_: Any) -> Any:
        raise NotImplementedError


@asynccontextmanager
async def machine(*resources: Any) -> AsyncIterator[RunningModule]:
    """Start a machine of the SDK with resources, and the module beside it."""
    with tempfile.TemporaryDirectory(prefix="viam-") as folder:
        server = Server(list(resources))
        await server._server.start(path=f"{folder}/parent.sock")
        try:
            async with running_module(parent=f"{folder}/parent.sock") as module:
                yield module
        finally:
            server._server.close()
            await server._server.wait_closed()


def test_pictures_of_cameras(detector: Path) -> None:
    data = as_png(frame())

    async def program() -> None:
        with accelerate.load(detector) as model:
            wanted = Detector(model, clip=True)(frame())
        async with machine(Eye("eye", data)) as module:
            checked = await module.validate(VISION, VISION_MODEL, "v", {"mlmodel_name": "m", "camera_name": "eye"})
            assert list(checked.dependencies) == ["m", "eye"]
            client = await vision(module, detector, {"camera_name": "eye"})
            assert (await client.get_properties()).default_camera == "eye"
            for name in ("eye", ""):
                same_objects(await client.get_detections_from_camera(name), wanted, (40, 60))
            everything = await client.capture_all_from_camera(
                "eye", return_image=True, return_detections=True, return_classifications=True,
                return_object_point_clouds=True, return_detections_3d=True,
            )  # fmt: skip
            assert everything.image is not None
            assert (everything.image.data, everything.image.mime_type) == (data, CameraMimeType.PNG)
            assert everything.detections is not None
            same_objects(everything.detections, wanted, (40, 60))
            assert not everything.classifications
            assert not everything.objects
            status, said = await refused(client.get_detections_from_camera("ear"))
            assert status is Status.INVALID_ARGUMENT
            assert "no camera 'ear'; it has 'eye'" in said

    asyncio.run(program())


class Stranger(MLModel):
    """A model as other modules serve it: without scales, operators and an order of boxes."""

    def __init__(self, name: str, model: accelerate.Model) -> None:
        super().__init__(name)
        self.model = LocalMLModel(name, model)

    async def infer(self, input_tensors: Any, **_: Any) -> Any:
        return await self.model.infer(input_tensors)

    async def metadata(self, **_: Any) -> Any:
        told = await self.model.metadata()
        for info in (*told.input_info, *told.output_info):
            info.ClearField("extra")
            info.ClearField("description")
        return told


def test_models_elsewhere_on_the_machine(detector: Path) -> None:
    async def program() -> None:
        with accelerate.load(detector) as objects, accelerate.load(DIGITS) as digits:
            wanted, class_ = Detector(objects, clip=True)(frame()), Classifier(digits)(DIGIT)
            resources = [
                kind(f"{kind.__name__} {name}", model)
                for kind in (LocalMLModel, Stranger)
                for name, model in (("objects", objects), ("digits", digits))
            ]
            async with machine(*resources) as module:
                client = VisionClient("vision", module.channel)
                call: Any = module.add
                for kind in ("LocalMLModel", "Stranger"):
                    await call(VISION, VISION_MODEL, "vision", {"mlmodel_name": f"{kind} objects"})
                    call = module.reconfigure
                    same_objects(await client.get_detections(picture(as_png(frame()))), wanted, (40, 60))
                    await call(VISION, VISION_MODEL, "vision", {"mlmodel_name": f"{kind} digits"})
                    found = await client.get_classifications(picture(DIGIT), 1)
                    np.testing.assert_allclose([one.confidence for one in found], class_.scores[:1])
                await module.add(GENERIC, "edge-accelerate:generic:mlmodel", "g", {"mlmodel_name": "Stranger digits"})
                commands: Any = GenericClient("g", module.channel)
                assert (await refused(commands.client.DoCommand(DoCommandRequest(name="g")))) == (
                    Status.UNIMPLEMENTED,
                    "the ML model service 'Stranger digits' is not this module's, and Viam's protocol has no commands "
                    "for those of others",
                )
                status, said = await refused(module.add(VISION, VISION_MODEL, "other", {"mlmodel_name": "near"}))
                assert status is Status.INVALID_ARGUMENT
                assert "no ML model service 'near'; it has 'LocalMLModel digits'" in said

    asyncio.run(program())


WRONG = [
    ({}, "there is no mlmodel_name"),
    ({"mlmodel_name": ""}, "mlmodel_name is ''"),
    ({"mlmodel": "m"}, "there is no attribute 'mlmodel' (did you mean 'mlmodel_name'?)"),
    ({"input_image_mean_value": [0.5]}, "input_image_mean_value is [0.5]; write three numbers"),
    ({"input_image_mean_value": [127.5] * 3}, "write [0.5, 0.5, 0.5]"),
    ({"input_image_std_dev": [0, 1, 1]}, "input_image_std_dev is [0.0, 1.0, 1.0], and pixels are divided by it"),
    ({"input_image_bgr": "yes"}, "input_image_bgr is 'yes'; write true or false"),
    ({"xmin_ymin_xmax_ymax_order": [0, 1, 2]}, "xmin_ymin_xmax_ymax_order is [0.0, 1.0, 2.0]; write which of"),
    ({"xmin_ymin_xmax_ymax_order": [0, 1, 2, 2]}, "xmin_ymin_xmax_ymax_order is [0.0, 1.0, 2.0, 2.0]"),
    ({"xmin_ymin_xmax_ymax_order": [[1], 0, 3, 2]}, "xmin_ymin_xmax_ymax_order is [[1.0], 0.0, 3.0, 2.0]; write"),
    ({"xmin_ymin_xmax_ymax_order": [2, 3, 0, 1]}, "[0, 1, 2, 3] or [1, 0, 3, 2] or [0, 2, 1, 3] or [1, 3, 0, 2]"),
    ({"default_minimum_confidence": 50}, "default_minimum_confidence is 50.0; write a number from 0 to 1"),
    ({"label_confidences": ["cat"]}, "label_confidences is ['cat']"),
    ({"label_confidences": {"cat": 2}}, "label_confidences is {'cat': 2.0}"),
    ({"remap_output_names": ["a"]}, "remap_output_names is ['a']"),
    ({"remap_output_names": {"a": "score", "b": "score"}}, "remap_output_names gives two tensors one name"),
    ({"label_path": 1}, "label_path is 1.0"),
    ({"camera_name": 1}, "camera_name is 1.0"),
]


@pytest.mark.parametrize(("attributes", "wanted"), WRONG)
def test_wrong_attributes(attributes: dict[str, Any], wanted: str) -> None:
    whole = attributes if not attributes or "mlmodel" in "".join(attributes) else {"mlmodel_name": "m", **attributes}
    with pytest.raises(accelerate.OptionError) as refusal:
        VisionAttributes.read(config(VISION, VISION_MODEL, "see", whole))
    assert str(refusal.value).startswith("service 'see': ")
    assert wanted in str(refusal.value)


def task(model: Any, **attributes: Any) -> Any:
    read = VisionAttributes.read(config(VISION, VISION_MODEL, "see", {"mlmodel_name": "m", **attributes}))
    return read.task(model.metadata())


def test_attributes_that_do_not_fit_the_model(detector: Path) -> None:
    labels = detector.with_name("labels.txt")
    with accelerate.load(detector, label_path=labels) as model:
        for attributes, wanted in (
            (
                {"remap_output_names": {"locations": "location"}},
                "no such tensor as 'locations' (did you mean 'location'",
            ),
            (
                {"remap_input_names": {"picture": "image"}},
                "remap_input_names: the model has no such tensor as 'picture'",
            ),
            ({"label_confidences": {"thingy 1": 0.5}}, "label_confidences: the model has no label 'thingy 1' (did you"),
            ({"label_path": "/missing.txt"}, "label_path='/missing.txt'"),
        ):
            with pytest.raises(accelerate.OptionError) as refusal:
                task(model, **attributes)
            assert str(refusal.value).startswith("service 'see': ")
            assert wanted in str(refusal.value)


def test_attributes_say_what_viams_code_reads_in_them(tmp_path: Path, detector: Path) -> None:
    data = ssd(("a", "b", "c", "d"), (0, 1, 2, 3))[0]
    with accelerate.load(data) as model, accelerate.load(detector) as named:
        names = {"a": "location", "b": "category", "c": "score"}
        plain = Detector(model, clip=True)(frame())
        for made in (task(model), task(model, remap_output_names=names)):
            feeds, geometry = made.prepare(frame())
            assert made.decode(model.infer(feeds), geometry).boxes.tolist() == plain.boxes.tolist()
        # the attribute says which corner stands at each place
        assert task(model, xmin_ymin_xmax_ymax_order=[1, 0, 3, 2]).layout.boxes == "yxyx"
        assert task(model, xmin_ymin_xmax_ymax_order=[0, 1, 2, 3]).layout.boxes == "xyxy"
        assert task(model, xmin_ymin_xmax_ymax_order=[1, 3, 0, 2]).layout.boxes == "yyxx"
        with pytest.raises(accelerate.OptionError, match="names a location and no score"):
            task(model, remap_output_names={"a": "location"})
        own = tmp_path / "own.txt"
        own.write_text("one\ntwo\nthree\nfour\nfive\n")
        assert task(model, label_path=str(own)).metadata.labels[:2] == ("one", "two")
        assert task(named).layout.kind == "list"
    with accelerate.load(DIGITS.with_name("digits.onnx")) as floats:
        info = task(floats, input_image_mean_value=[0.5] * 3, input_image_std_dev=[0.25] * 3).preparation.info
        assert (set(info.normalization.mean), set(info.normalization.std)) == ({127.5}, {63.75})
    with accelerate.load(detector) as model:
        made = task(model, input_image_mean_value=[0, 0.5, 1], input_image_bgr=True)
        assert made.preparation.info.color == "BGR"
        feeds, _ = made.prepare(np.full((8, 8, 3), (255, 0, 51), np.uint8))
        (tensor,) = feeds.values()
        if tensor.dtype == np.float32:  # blue first: (p / 255 - mean) / 0.5
            np.testing.assert_allclose(tensor[0, 0, 0], [0.4, -1, 0], atol=1e-6)


def test_a_model_without_a_picture_is_no_vision_model() -> None:
    for file in (odd_models.two_inputs(), odd_models.add3()):
        with (
            accelerate.load(file) as model,
            pytest.raises(accelerate.OptionError, match=r"service 'see': the model of 'm' takes no picture"),
        ):
            task(model)


#: How pixels become values, where the model does not say it.
_UNTOLD = {"mobilenet_v1_0.25_128_quant.onnx": [127.5, 127.5], "vww_96_float.tflite": [0, 255]}


@pytest.mark.slow
@pytest.mark.skipif(not IMAGES.exists(), reason="the real models and photographs are not here")
@pytest.mark.parametrize(
    ("model", "labels"),
    [
        ("coco_ssd_mobilenet_v1_1.0_quant.tflite", "coco_labels.txt"),
        ("coco_ssd_mobilenet_v1_1.0_quant_no_metadata.tflite", "coco_labels.txt"),
        ("yolox_nano.onnx", "coco80_labels.txt"),
        ("yolox_nano_float16_quantize.tflite", "coco80_labels.txt"),
        ("nanodet_m_320.onnx", "coco80_labels.txt"),
        ("mobilenet_v1_0.25_128_quant.tflite", "imagenet_labels.txt"),
        ("mobilenet_v2_1.0_224_quant.tflite", "imagenet_labels.txt"),
        ("mobilenet_v1_0.25_224_float_metadata.tflite", ""),
        ("mobilenet_v1_0.25_128_quant.onnx", "imagenet_labels.txt"),
        ("vww_96_int8.tflite", ""),
        ("vww_96_float.tflite", ""),
    ],
)
def test_real_models(model: str, labels: str) -> None:
    more: dict[str, Any] = {"label_path": str(MODELS / labels)} if labels else {}
    if model in _UNTOLD:
        more["normalization"] = _UNTOLD[model]

    async def program() -> None:
        async with running_module() as module:
            client = await vision(module, MODELS / model, {}, **more)
            with accelerate.load(MODELS / model, **more) as loaded:
                kind = Classifier if model.startswith(("mobilenet", "vww")) else Detector
                options: Any = {"clip": True} if kind is Detector else {"max_results": 5}
                ours = kind(loaded, **options)
                for path in sorted(IMAGES.iterdir()):
                    if path.suffix not in (".jpg", ".bmp"):
                        continue
                    data, wanted = path.read_bytes(), ours(path)
                    if kind is Detector:
                        with Image.open(path) as opened:
                            size = opened.size[::-1]
                        same_objects(await client.get_detections(picture(data)), wanted, size)
                    else:
                        found = await client.get_classifications(picture(data), 5)
                        assert [one.class_name for one in found] == list(wanted.labels)
                        assert [one.confidence for one in found] == pytest.approx(wanted.scores.tolist())

    asyncio.run(program())
