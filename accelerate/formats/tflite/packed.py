"""The files packed into a model: a zip archive appended to it, which a flatbuffer's reader never sees.

They are only ever read into memory. A name is nothing but a name: "../x" and "/x" lead nowhere.
The archive is as untrusted as the model, so the directory, the size of a file and the ways to
compress one are bounded (LZMA, for one, lets 20 bytes ask for a dictionary of 4 GiB).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from ...errors import ModelError

if TYPE_CHECKING:
    from mmap import mmap
    from zipfile import ZipFile, ZipInfo

__all__ = ["PackedFiles"]

# The record that ends an archive: its signature, size, and the longest comment that may follow it
# (4.3.16 of PKWARE's APPNOTE.TXT 6.3.10).
END_SIGNATURE = b"PK\x05\x06"
END_SIZE = 22
LONGEST_COMMENT = 0xFFFF

DIRECTORY_LIMIT = 512 << 10
FILE_LIMIT = 4 << 20

STORED, DEFLATED = 0, 8
ENCRYPTED_FLAG = 0x1


class PackedFiles:
    """The files packed into a model, of which the buffer is the whole file.

    Attributes
    ----------
    names : tuple of str
        As the archive lists them, empty without an archive. A name that is listed twice means the last of the two, as
        it does to every reader of zip files.

    Raises
    ------
    ModelError
        If there is an archive that cannot be listed.
    """

    def __init__(self, buffer: bytes | mmap, where: str) -> None:
        self._where = where
        self._archive: ZipFile | None = None
        self.names: tuple[str, ...] = ()
        tail = max(0, len(buffer) - END_SIZE - LONGEST_COMMENT)
        if END_SIGNATURE in bytes(buffer[tail:]):
            self._archive = _open(buffer, where)
            self.names = tuple(dict.fromkeys(self._archive.namelist()))

    def read(self, name: str) -> bytes:
        """Return the content of one file.

        Raises
        ------
        ModelError
            If there is none of that name, or it is encrypted, compressed in an unusual way, larger
            than 4 MiB, or damaged.
        """
        if self._archive is None or name not in self.names:
            raise ModelError(
                f"{self._where}: no file {name!r} is packed into the model; it has: {_listing(self.names)}"
            )
        info = self._archive.getinfo(name)
        what = f"{self._where}: the packed file {name!r}"
        if info.flag_bits & ENCRYPTED_FLAG:
            raise ModelError(f"{what} is encrypted", "pack it without a password")
        if info.compress_type not in (STORED, DEFLATED):
            raise ModelError(f"{what} is compressed by method {info.compress_type}", "pack it by deflate")
        if info.file_size > FILE_LIMIT:
            raise ModelError(f"{what} has {info.file_size} bytes; at most {FILE_LIMIT} are read from within a model")
        return self._content(info, what)

    def _content(self, info: ZipInfo, what: str) -> bytes:
        import struct
        import zlib
        from zipfile import BadZipFile

        assert self._archive is not None
        try:
            with self._archive.open(info) as file:
                return file.read(FILE_LIMIT + 1)
        except (BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError) as error:
            raise ModelError(f"{what} is damaged: {error}") from error
        except (ValueError, OverflowError, struct.error, zlib.error) as error:
            raise ModelError(f"{what} is damaged: {error}") from error


class _Window(io.RawIOBase):
    """A file over a buffer, without a copy of it, that lets a bounded number of bytes be read.

    ``zipfile`` reads a directory as large as the archive claims and makes an object per entry, so
    the bound on what it reads while it opens one bounds its memory.
    """

    def __init__(self, buffer: bytes | mmap) -> None:
        self._buffer = buffer
        self._position = 0
        self.allowance: int | None = DIRECTORY_LIMIT

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = (0, self._position, len(self._buffer))[whence]
        if start + offset < 0:
            raise OSError(f"position {start + offset} is before the file's start")
        self._position = start + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        end = len(self._buffer)
        if size is not None and size >= 0:
            end = min(end, self._position + size)
        length = max(0, end - self._position)
        if self.allowance is not None:
            self.allowance -= length
            if self.allowance < 0:
                raise OSError(f"its directory is larger than the {DIRECTORY_LIMIT} bytes that are read")
        data = bytes(self._buffer[self._position : self._position + length])
        self._position += length
        return data


def _open(buffer: bytes | mmap, where: str) -> ZipFile:
    import struct
    from zipfile import BadZipFile, ZipFile

    window = _Window(buffer)
    try:
        archive = ZipFile(window)
    except (BadZipFile, NotImplementedError, OSError, ValueError, OverflowError, struct.error) as error:
        raise ModelError(f"{where}: the archive of packed files behind the model is damaged: {error}") from error
    window.allowance = None
    return archive


def _listing(names: tuple[str, ...]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return shown + (", ..." if len(names) > 10 else "") if names else "none"
