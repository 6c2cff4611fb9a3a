"""The texts of an array as bytes, for runtimes that take what `infer` has checked and what a Binding's arrays hold."""

from __future__ import annotations

from ..errors import TensorError
from .conversion import Array

__all__ = ["encoded_texts"]


def encoded_texts(array: Array, name: str) -> list[bytes]:
    """Return the texts of an object array in their order, each as bytes.

    Parameters
    ----------
    array : numpy.ndarray
        Of str and bytes; a Binding's may hold anything.
    name : str
        The tensor's, for the error.

    Raises
    ------
    TensorError
        For what is neither str nor bytes, and for str that has no UTF-8 form.
    """
    return [_encoded(word, name) for word in array.ravel().tolist()]


def _encoded(word: object, name: str) -> bytes:
    if isinstance(word, bytes):
        return word
    if not isinstance(word, str):
        raise TensorError(f"input {name!r} holds {word!r:.60} ({type(word).__name__}); wanted str or bytes")
    try:
        return word.encode()
    except UnicodeEncodeError as error:  # lone surrogates
        raise TensorError(f"input {name!r} holds text that has no UTF-8 form ({error.reason})") from error
