"""Which board this is: a Raspberry Pi or an NVIDIA Jetson by its device tree, anything else by its firmware."""

from __future__ import annotations

import re

from .._records import record
from ..system.debian import debian_version
from ..system.files import read_text

__all__ = ["Board", "find_board"]

_LONGEST = 100  # of a name that a file gives
#: Which JetPack a release of L4T (Jetson Linux) came with: https://developer.nvidia.com/embedded/jetpack-archive.
_JETPACK = {
    "32.7.1": "4.6.1", "32.7.2": "4.6.2", "32.7.3": "4.6.3", "32.7.4": "4.6.4", "32.7.5": "4.6.5", "32.7.6": "4.6.6",
    "35.1.0": "5.0.2", "35.2.1": "5.1", "35.3.1": "5.1.1", "35.4.1": "5.1.2", "35.5.0": "5.1.3", "35.6.0": "5.1.4",
    "35.6.1": "5.1.5", "35.6.2": "5.1.5",
    "36.3.0": "6.0", "36.4.0": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1", "36.4.7": "6.2.1", "36.5.0": "6.2.2",
    "36.5.2": "6.2.3", "38.2.0": "7.0", "38.4.0": "7.1", "39.2.0": "7.2", "39.2.1": "7.2.1",
}  # fmt: skip
#: The generations of both, for the releases that the table lacks.
_GENERATION = {28: "3", 32: "4", 34: "5", 35: "5", 36: "6", 38: "7", 39: "7"}


@record(frozen=True)
class Board:
    """A board.

    Attributes
    ----------
    name : str
        What its maker calls it; "" where nothing tells.
    kind : str
        "raspberry-pi", "jetson", or "" for any other.
    l4t : str
        Of a Jetson, the release of L4T (Jetson Linux): "36.4.3"; "" where nothing tells.
    jetpack : str
        Of a Jetson, the JetPack: "6.2", or its generation alone.
    """

    name: str
    kind: str = ""
    l4t: str = ""
    jetpack: str = ""


def find_board(root: str = "") -> Board:
    """Find out which board this is, or the one whose files are in the folder `root`.

    A device tree names the board in ``model`` and, from the most to the least particular, what it is in ``compatible``:
    "raspberrypi,5-model-b", "nvidia,p3767-0005", ... (https://www.devicetree.org/specifications). Containers hide it.
    A PC's firmware names it by DMI.
    """
    tree = f"{root}/proc/device-tree"
    model, compatible = read_text(f"{tree}/model"), read_text(f"{tree}/compatible").split("\0")
    name = _one_line(model) or _by_firmware(root)
    if any(each.startswith("raspberrypi,") for each in compatible) or model.startswith("Raspberry Pi"):
        return Board(name, "raspberry-pi")
    release = read_text(f"{root}/etc/nv_tegra_release")
    if release or any(each.startswith("nvidia,tegra") for each in compatible):
        l4t = _l4t(root, release)
        return Board(name, "jetson", l4t, _jetpack(root, l4t))
    return Board(name)


def _by_firmware(root: str) -> str:
    maker, product = (
        _one_line(read_text(f"{root}/sys/class/dmi/id/{field}")) for field in ("sys_vendor", "product_name")
    )
    return product if product.startswith(maker) else f"{maker} {product}".strip()


def _l4t(root: str, release: str) -> str:
    """Return the release of L4T.

    The first line of its file is "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, ...".
    The package nvidia-l4t-core, whose version begins with it ("36.4.3-20250107174145"), is more exact where an update
    has left that file alone.
    """
    if core := re.match(r"\d+\.\d+(\.\d+)?", debian_version("nvidia-l4t-core", root)):
        return core[0]
    said = re.match(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*(\d+(?:\.\d+)*)", release)
    return f"{said[1]}.{said[2]}" if said else ""


def _jetpack(root: str, l4t: str) -> str:
    """Return the version of the package nvidia-jetpack ("6.2.1+b38"), else what came with this release of L4T."""
    if package := re.match(r"\d+(\.\d+)*", debian_version("nvidia-jetpack", root)):
        return package[0]
    release = ".".join([*l4t.split("."), "0"][:3])
    generation = int(release.partition(".")[0]) if release[:1].isdigit() else 0
    return _JETPACK.get(release) or _GENERATION.get(generation, "")


def _one_line(text: str) -> str:
    return " ".join(text.replace("\0", " ").split())[:_LONGEST]
