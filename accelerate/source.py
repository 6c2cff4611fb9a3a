"""Where a model comes from, and what kind of file it is, judged by its content and never by its name."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import ModelError, ModelNotFoundError, OptionError
from .formats.sniffing import judge
from .given import content_of, is_file_url, path_of

if TYPE_CHECKING:
    from mmap import mmap

__all__ = ["Source", "stamp_of", "without_secrets"]

_Reading = TypeVar("_Reading")
_HEAD = 4096
_NAMES = 10_000  # of a folder, looked through for a model
#: Files of these formats, which their runtimes would map, are read into memory up to this size: a program that writes
#: into a mapped file changes the answers of the model, or ends the process where it makes it shorter (SIGBUS).
_HELD = {"tflite": 16 << 20, "openvino": 64 << 20}


class Source:
    """A model as `load` was given it: a path, what has bytes in it, a URL, or an existing runtime object.

    Of bytes that somebody may still change or close, such as an mmap or a file's, it has a copy of its own.

    Attributes
    ----------
    given : object
        What the caller passed.
    path : pathlib.Path or None
    url : str or None
        For a source such as ``triton://host:8001/model``.
    object : object or None
        For an existing interpreter or session.
    format : str
        "tflite", "onnx", "openvino", "url", "object", "directory", or "" for content of no format known here; a backend
        may still know it.
    head : bytes
        The first 4096 bytes of a file.
    likeness : str
        What it is, for messages: "a TFLite model", "a PNG picture", "a text file that starts with ...".
    remedy : str
        What to do with content of no format known here, for messages.
    """

    def __init__(self, given: Any) -> None:
        self.given = given
        self.path: Path | None = None
        self.url: str | None = None
        self.object: Any = None
        self._data: bytes | None = None
        self._held: bytes | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._kept: dict[Any, Any] | None = None
        self.head = b""
        self.format = self.likeness = self.remedy = ""
        if isinstance(given, Source):
            raise OptionError("load() was given a Source", "give it the path, bytes, URL or runtime object itself")
        if isinstance(given, str) and "://" in given and not is_file_url(given):
            self.url, self.format, self.likeness = given, "url", "a URL"
        elif isinstance(given, (str, os.PathLike)):
            self._open_path(path_of(given))
        elif given is None or isinstance(given, (int, float, dict, list, tuple, set)):
            raise OptionError(
                f"load() was given {type(given).__name__} {given!r:.60}; "
                "wanted a path, bytes, a URL, or an existing interpreter or session"
            )
        elif (data := content_of(given)) is not None:
            self._data = data
            self._judge(data[:_HEAD])
        else:
            self.object, self.format, self.likeness = given, "object", "an existing object"

    def __str__(self) -> str:
        if self.path is not None:
            return str(self.path)
        if self.url is not None:
            return without_secrets(self.url)
        if self._data is not None:
            return f"<{len(self._data)} bytes>"
        return f"<{type(self.object).__module__}.{type(self.object).__qualname__}>"

    def holds(self, package: str, kind: str) -> bool:
        """Return whether it is an existing object of a package's class of this name; neither is imported for that."""
        kinds = type(self.object).__mro__
        return any(k.__name__ == kind and k.__module__.partition(".")[0] == package for k in kinds)

    @property
    def stamp(self) -> tuple[int, int, int] | None:
        """The file's inode, size and time of its last change (ns), as it was opened: who finds the same, has the same.

        None of what is no file.
        """
        return self._stamp

    @property
    def utf8_path(self) -> str | None:
        """The file's path for a runtime that takes UTF-8 only; None where there is no such path: `read` it then."""
        path = None if self.path is None else str(self.path)
        return path if path is None or _is_utf8(path) else None

    def again(self, folder: str) -> str | bytes:
        """Return what another process can be given for the same model; a relative path is one from `folder`.

        Raises
        ------
        OptionError
            It is an existing object.
        """
        if self.path is not None:
            return os.path.join(folder, self.path)
        if self.url is not None:
            return self.url
        if self._data is not None:
            return self._data
        raise OptionError(
            f"a model that runs {self}, an existing object, cannot be pickled or copied",
            "load the model file where it is to run: in the worker",
        )

    def read(self) -> bytes:
        """Return the whole model file.

        Raises
        ------
        ModelNotFoundError, ModelError
            When the file is gone or cannot be read.
        """
        if self._data is not None:
            return self._data
        if self.path is None:
            raise ModelError(f"{self} has no model file to read")
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def held(self) -> bytes | None:
        """Return the content where it is held in memory: of what came as bytes, and of a small file that needs it.

        It is the same object to all, for as long as this source lives.

        Raises
        ------
        ModelNotFoundError, ModelError
        """
        if self._data is not None:
            return self._data
        if self._stamp is None or self._stamp[1] > _HELD.get(self.format, -1):
            return None
        if self._held is None:
            self._held = self.read()
        return self._held

    def buffer(self) -> bytes | mmap:
        """Return the model file for reading a few places of it; one that is not `held` is not read whole.

        Raises
        ------
        ModelNotFoundError, ModelError
        """
        if (content := self.held()) is not None:
            return content
        if self.path is None:
            return self.read()
        import mmap

        try:
            with self.path.open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # a file system without mmap, or a file that has become empty
            return self.read()

    def opened(self, reader: Callable[[bytes | mmap, str], _Reading]) -> _Reading:
        """Return a reader of the file, such as ``formats.tflite.ModelFile``: within `kept_open` the same to all.

        Raises
        ------
        ModelNotFoundError, ModelError
        """
        kept = {} if self._kept is None else self._kept
        if reader not in kept:
            kept[reader] = reader(self.buffer(), str(self))
        found: _Reading = kept[reader]
        return found

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[None]:
        """Read the file once for all that is asked meanwhile; afterwards only who holds a reader keeps it open."""
        outer, self._kept = self._kept, {} if self._kept is None else self._kept
        try:
            yield
        finally:
            self._kept = outer

    @contextlib.contextmanager
    def as_path(self, suffix: str) -> Iterator[Path]:
        """Give a path whose name ends in `suffix`, for a runtime that reads nothing else; one that was made goes again.

        Raises
        ------
        ModelError
            There is no file, or no room for one.
        """
        if self.path is not None and self.path.suffix == suffix:
            yield self.path
            return
        import tempfile

        with contextlib.ExitStack() as stack:
            try:
                made = Path(stack.enter_context(tempfile.TemporaryDirectory())) / f"model{suffix}"
                if self.path is not None:
                    made.symlink_to(self.path.resolve())
                else:
                    made.write_bytes(self.read())
            except OSError as error:
                reason = f"{self} cannot be written to a temporary file: {error.strerror or error}"
                raise ModelError(reason, "free some space, or set TMPDIR") from error
            yield made

    def unchanged(self) -> bool:
        """Return whether the model can be read again as it was: nobody has removed, replaced or written its file."""
        if self._data is not None:
            return True
        return self.path is not None and self._stamp is not None and stamp_of(self.path) == self._stamp

    def overwritten(self) -> bool:
        """Return whether the model's file has been written to: then whoever maps it sees something else."""
        if self.path is None or self._stamp is None:
            return False
        try:
            now = os.stat(self.path)
        except OSError:  # removed: what is open of it stays as it was
            return False
        # another file in its place leaves the old one alone
        return now.st_ino == self._stamp[0] and _stamp(now) != self._stamp

    def no_model(self) -> ModelError:
        """Return the error for content that no backend here knows."""
        return ModelError(f"{self} is {self.likeness}, not a model that any backend here knows", self.remedy)

    def digest(self) -> str | None:
        """Return the SHA-256 of the model file as hexadecimal text.

        Of a model with weights in other files it is that of the lines ``<SHA-256>  <name>`` of all of them: first the
        model's own without a name, then the others' in the order of their names. None where one cannot be read.
        """
        from hashlib import sha256  # loads OpenSSL, 2.5 ms

        own = sha256(self.read()).hexdigest() if self.path is None else _sha256(self.path)
        try:
            # of a pair of files of one name only the ending belongs to the model
            others = {name if self.format == "onnx" else Path(name).suffix: path
                      for name, path in self.other_files().items()}  # fmt: skip
            lines = [f"{_sha256(path)}  {name}\n" for name, path in sorted(others.items())]
        except ModelError:
            return None
        return sha256("".join((f"{own}  \n", *lines)).encode()).hexdigest() if lines else own

    def other_files(self) -> Mapping[str, Path]:
        """Return where the files lie in which the model keeps weights, by their names in its folder; most have none.

        Raises
        ------
        ModelError
            One is missing or cannot be the model's, or lies outside of its folder.
        """
        if self.format == "onnx":
            from .formats.onnx.external_data import external_paths
            from .formats.onnx.file import ModelFile as ONNXFile

            return external_paths(self.opened(ONNXFile), self.path)
        if self.format == "openvino":
            from .formats.openvino.file import ModelFile as OpenVINOFile
            from .formats.openvino.weights import weights_path

            path = weights_path(self.opened(OpenVINOFile), self.path)
            return {} if path is None else {path.name: path}
        return {}

    def _open_path(self, path: Path) -> None:
        self.path = path
        if _is_directory(path):
            from .formats.likeness import of_folder

            self.format = "directory"
            self.likeness, self.remedy = of_folder(_some_names(path))
            return
        if _is_special(path):  # opening a pipe waits for its writer
            raise ModelError(f"{path} is no file but a pipe, socket or device", "save the model to a file")
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD)
                self._stamp = _stamp(os.fstat(file.fileno()))
        except OSError as error:
            raise _unreadable(path, error) from error
        except ValueError as error:  # a NUL in it
            raise OptionError(f"{str(path)!r:.60} cannot be a path: {error}") from error
        self._judge(head)

    def _judge(self, head: bytes) -> None:
        if not head:
            raise ModelError(f"{self} is empty (0 bytes): the download or copy may have failed", "fetch it again")
        self.head = head
        self.format, self.likeness, self.remedy = judge(head)


def without_secrets(url: object) -> str:
    """Return a URL for a message: what stands before an "@" or behind a "?" or "#" may be a secret."""
    if not isinstance(url, str):
        return f"of type {type(url).__name__}"
    told, *hidden = re.split("[?#]", re.sub(r"(?s)^(\w+://)?.*@", r"\1***@", url), maxsplit=1)
    return told + ("..." if hidden else "")


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _some_names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in itertools.islice(entries, _NAMES)}
    except OSError:  # not ours to read
        return set()


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # what is wrong with it shows when it is opened
        return False


def _is_special(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode)


def stamp_of(path: str | Path) -> tuple[int, int, int] | None:
    """Return the `Source.stamp` that a file has now; None where there is none."""
    try:
        return _stamp(os.stat(path))
    except (OSError, ValueError):  # ValueError: a zero byte in a name
        return None


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _sha256(path: Path) -> str:
    from hashlib import sha256

    digest = sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def _unreadable(path: Path, error: OSError) -> ModelError:
    if isinstance(error, FileNotFoundError):
        near = path.parent
        hint = f"the folder {near} exists" if near.is_dir() else f"nor is there a folder {near}"
        return ModelNotFoundError(
            f"there is no file {path} ({hint}; the working folder is {Path.cwd()})", "check the path"
        )
    return ModelError(f"{path} cannot be read: {error.strerror or error}", "check its permissions")
