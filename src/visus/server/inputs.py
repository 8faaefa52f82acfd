"""From the body of a request to the sources of its samples, and from a source to a stored sample. Everything here runs in threads.

Nothing is unpickled and no file is written. Sizes are checked before memory is allocated.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import python_multipart
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from visus.data.images.decode import Limits, probe_image
from visus.data.ledger import FAR_OFF, Ledger
from visus.data.npy import from_npy_bytes
from visus.data.preprocessing import Pixels, Preprocessing
from visus.errors import ImageError, UsageError, printable
from visus.server.problems import Problem
from visus.units import write_number_of, write_shape
from visus.workbench.runs.predict_inputs import ArraySample, array_rows

MULTIPART: Final = "multipart/form-data"
JSON: Final = "application/json"
ARRAY: Final = "application/x-npy"
ACCEPTED: Final = f"{MULTIPART}, image/*, {ARRAY}, {JSON}"
_NPY: Final = b"\x93NUMPY"
_MAX_NAME: Final = 200
_UNLIMITED: Final = Limits(max_bytes=2**62, max_pixels=2**62)


@dataclass(frozen=True, eq=False)
class Source:
    """Where one sample comes from.

    Args:
        name: the client's name of it.
        content: an image file, or a row (C, *) of an array.
        problem: why there is no sample.
    """

    name: str
    content: bytes | Pixels = b""
    problem: Problem | None = None

    @property
    def num_bytes(self) -> int:
        """Size of the content."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.nbytes


def media_type(content_type: str) -> str:
    """The media type of a request, in lower case.

    Raises:
        Problem: it is none that is read here.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind in (MULTIPART, JSON, ARRAY) or (kind.startswith("image/") and len(kind) > len("image/")):
        return kind
    found = f"The content type is {printable(kind)[:_MAX_NAME]}" if kind else "The content type is missing"
    raise Problem(415, f"{found}, and one of these is needed: {ACCEPTED}.", headers={"Accept-Post": ACCEPTED})


def read_sources(content_type: str, body: bytes, preprocessing: Preprocessing, max_files: int) -> list[Source]:
    """The sources of all samples of a request, in order.

    Args:
        content_type: the header of the request.
        body: its whole body.
        preprocessing: of the network.
        max_files: samples that a request may have.

    Raises:
        Problem: the body cannot be read, is empty, or has too many samples.
    """
    kind = media_type(content_type)
    if not body:
        raise Problem(400, "The body is empty. Send an image, an array, a form with files, or a JSON list.")
    if kind == MULTIPART:
        given = _form_files(content_type, body, max_files)
    elif kind == JSON:
        given = _json_files(body, max_files)
    elif kind == ARRAY:
        given = [Source("array", body)]
        if not body.startswith(_NPY):
            raise Problem(415, f"The content type is {ARRAY}, and the body is no NPY file. Write it with numpy.save.")
    else:
        given = [Source("image", body)]
    if not given:
        raise Problem(400, "The request has no file. Send at least one.")
    found: list[Source] = []
    for each in given:
        found += _rows(each, preprocessing, max_files) if each.problem is None and _is_npy(each.content) else [each]
        _refuse_many(len(found), max_files)
    return found


def read_sample(source: Source, preprocessing: Preprocessing, limits: Limits) -> tuple[Pixels, tuple[str, ...]]:
    """The stored sample (C, *) of a source, with the changes that were made to it.

    Raises:
        Problem: it cannot be read, or exceeds the limits.
    """
    if source.problem is not None:
        raise source.problem
    ledger = Ledger()
    try:
        if isinstance(source.content, np.ndarray):
            sample = preprocessing.fit_row(source.content, ledger, source.name)
            if preprocessing.is_far_off(sample):
                ledger.note(FAR_OFF, source.name)
        elif not preprocessing.is_image_like:
            shape = write_shape(preprocessing.input_shape)
            raise Problem(415, f"This network reads {preprocessing.noun}s of {shape} as NPY files, and this is none.")
        else:
            sample = preprocessing.read_image(source.content, ledger, name=source.name, limits=limits)
            if preprocessing.looks_inverted(sample):
                ledger.note("looks inverted", source.name)
    except ImageError as error:
        is_array = isinstance(source.content, np.ndarray)
        too_large = isinstance(source.content, bytes) and _num_pixels(source.content) > limits.max_pixels
        raise Problem(413 if too_large else 422 if is_array else 415, _sentence(error.message)) from None
    return sample, tuple(ledger.as_dict())


def _num_pixels(content: bytes) -> int:
    """The pixels of an image by its header; 0 if it has none."""
    try:
        return math.prod(probe_image(content, limits=_UNLIMITED).size)
    except ImageError:
        return 0


def refuse_pixels(sources: Sequence[Source], limit: int) -> None:
    """Compare the pixels of all images of a request, by their headers, with a limit.

    Raises:
        Problem: there are more.
    """
    if sum(_num_pixels(each.content) for each in sources if isinstance(each.content, bytes)) > limit:
        raise Problem(
            413, f"The images of this request have more than {limit:,} pixels together. Send fewer in each request."
        )


def _is_npy(content: bytes | Pixels) -> bool:
    return isinstance(content, bytes) and content.startswith(_NPY)


def _refuse_many(count: int, max_files: int) -> None:
    if count > max_files:
        raise Problem(413, f"The request has more than {write_number_of(max_files, 'sample')}. Send fewer in each request.")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


# ---- arrays ----


def _rows(source: Source, preprocessing: Preprocessing, max_files: int) -> list[Source]:
    """The samples of an NPY file."""
    assert isinstance(source.content, bytes)
    try:
        array = from_npy_bytes(source.content)
        if array.ndim == len(preprocessing.size) + 2:
            _refuse_many(len(array), max_files)
        rows: list[ArraySample] = []
        for row in array_rows(array, source.name, preprocessing):
            rows.append(row)
            _refuse_many(len(rows), max_files)
    except (ImageError, UsageError) as error:
        return [replace(source, content=b"", problem=Problem(422, _sentence(error.message)))]
    if not rows:
        return [replace(source, content=b"", problem=Problem(422, "The array has no sample."))]
    return [Source(row.name, row.row) for row in rows]


# ---- JSON ----


def _json_files(body: bytes, max_files: int) -> list[Source]:
    # Base64 has neither commas nor quotes, so a list is counted before a much larger one is made of it.
    _refuse_many(max(body.count(b","), body.count(b'"') // 2), max_files)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(400, "The body is not JSON. Send a list of files, each as base64.") from None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise Problem(422, "The body is no JSON list of texts. Send a list of files, each as base64.")
    _refuse_many(len(found), max_files)
    return [_from_base64(f"{place}", text) for place, text in enumerate(found)]


def _from_base64(name: str, text: str) -> Source:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return Source(
            name,
            problem=Problem(
                422, "This text is not base64. Encode the bytes of the file, without line breaks and without a prefix."
            ),
        )
    return Source(name, content)


# ---- forms ----


@dataclass
class _Part:
    name: str | None = None
    headers: dict[bytes, bytes] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)


def _form_files(content_type: str, body: bytes, max_files: int) -> list[Source]:
    """The files of a form.

    Raises:
        Problem: the form is damaged, has too many files, or a field that is no file.
    """
    damaged = Problem(
        400,
        "The form cannot be read. Send multipart/form-data with its boundary, and a part with a file name for each file.",
    )
    _, options = parse_options_header(content_type)
    if not options.get(b"boundary"):
        raise damaged
    reader = _FormReader(max_files)
    try:
        parser = python_multipart.MultipartParser(options[b"boundary"], reader.callbacks())
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError):
        raise damaged from None
    if not reader.is_complete:
        raise damaged
    return [Source(part.name or "file", bytes(part.content)) for part in reader.parts]


class _FormReader:
    """Collects the parts of a form."""

    def __init__(self, max_files: int) -> None:
        self.parts: list[_Part] = []
        self.is_complete = False
        self._max_files = max_files
        self._field, self._value = b"", b""

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._check,
            "on_part_data": self._add,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self.parts.append(_Part())
        _refuse_many(len(self.parts), self._max_files)

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self.parts[-1].headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _check(self) -> None:
        part = self.parts[-1]
        _, options = parse_options_header(part.headers.get(b"content-disposition", b""))
        if b"filename" not in options:
            name = printable(options.get(b"name", b"").decode("utf-8", "replace"))[:_MAX_NAME]
            raise Problem(422, f"The field {name!r} of the form is no file. Send files only; settings stand in the address.")
        part.name = printable(options[b"filename"].decode("utf-8", "replace"))[:_MAX_NAME]

    def _add(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].content += data[start:end]

    def _end(self) -> None:
        self.is_complete = True
