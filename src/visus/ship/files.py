"""The files of a bundle, from a folder or one zip file. Nothing is extracted, nothing in it is executed, and every byte is compared with its hash."""

from __future__ import annotations

import io
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

from visus.errors import BundleError, printable
from visus.files import write_file
from visus.ship.manifest import DIGEST, FORMAT, MANIFEST, Manifest, answers_digest, digest, is_inner_path, read_manifest
from visus.units import write_bytes

MAX_MANIFEST_BYTES: Final = 16 * 2**20
MAX_FILES: Final = 4_096
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)
_REGULAR: Final = 0o100644 << 16
_NOT_ONE = "this is neither the folder nor the zip file of a bundle. Make one with: visus export RUN"

_CUT_OFF = "this zip file is damaged or cut off. Copy the bundle again."


class _Source(Protocol):
    """A folder or a zip file."""

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""

    def read(self, path: str, max_bytes: int) -> bytes:
        """Up to ``max_bytes + 1`` bytes of a file."""


def is_bundle(path: Path) -> bool:
    """Whether a path looks like a bundle: a folder with a manifest, or a zip file. Nothing is checked."""
    return (path / MANIFEST).is_file() or (path.suffix.lower() == ".zip" and path.is_file())


class BundleFiles:
    """The files of a bundle, each read with its hash compared.

    Args:
        path: the folder or zip file.

    Raises:
        BundleError: it is no bundle, or a file was added, removed or changed, is a link, or has an impossible path or size.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._source: _Source = _Folder(path) if path.is_dir() else _Zip(path)
            sizes = self._source.sizes()
            text = self._read_manifest(sizes)
            self.manifest: Manifest = read_manifest(text)
            self.digest = digest(text)
            self._compare(sizes)
        except BundleError as error:
            raise error.within(str(path)) from None

    def read(self, path: str) -> bytes:
        """The content of a file that the manifest lists.

        Raises:
            BundleError: the manifest does not list the file, or it was changed.
        """
        facts = self.manifest.files.get(path)
        if facts is None:
            raise BundleError(
                "this file is not listed in the manifest. Export the run again.", where=f"{self.path}: {printable(path)}"
            )
        try:
            content = self._source.read(path, facts.num_bytes)
        except BundleError as error:
            raise error.within(str(self.path)) from None
        if len(content) != facts.num_bytes or digest(content) != facts.sha256:
            raise BundleError(
                "this file was changed after the export: its SHA-256 differs. Export the run again.",
                where=f"{self.path}: {path}",
            )
        return content

    def check(self) -> None:
        """Compare every file with its hash.

        Raises:
            BundleError: a file was changed.
        """
        for path in self.manifest.files:
            self.read(path)

    def check_answers(self, noted: str | None) -> None:
        """Compare the digest that a network notes of its task, preprocessing, calibration and test-time augmentation with the manifest.

        Args:
            noted: the field ``ANSWERS`` of its metadata.

        Raises:
            BundleError: they differ.
        """
        of = self.manifest
        if noted != answers_digest(of.preprocessing, of.temperature, of.smoothing, of.tta, of.task):
            raise BundleError(
                "the task, preprocessing, temperature, smoothing or tta of the manifest was changed: the network was exported with other ones. Export "
                "the run again.",
                where=str(self.path),
            )

    def _read_manifest(self, sizes: Mapping[str, int]) -> str:
        for name, limit in ((MANIFEST, MAX_MANIFEST_BYTES), (DIGEST, 1024)):
            if name not in sizes:
                raise BundleError(f"{name} is missing. {_NOT_ONE[0].upper()}{_NOT_ONE[1:]}")
            if sizes[name] > limit:
                raise BundleError(
                    f"this has {write_bytes(sizes[name])}, and at most {write_bytes(limit)} are read.", where=name
                )
        content = self._source.read(MANIFEST, MAX_MANIFEST_BYTES)
        expected = self._source.read(DIGEST, 1024).decode("ascii", "replace").split()
        if expected[:1] != [digest(content)]:
            raise BundleError(
                "this file was changed after the export: its SHA-256 differs. Export the run again.", where=MANIFEST
            )
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise BundleError("this is not UTF-8. Export the run again.", where=MANIFEST) from None

    def _compare(self, sizes: Mapping[str, int]) -> None:
        listed = {path: facts.num_bytes for path, facts in self.manifest.files.items()}
        found = {path: size for path, size in sizes.items() if path not in (MANIFEST, DIGEST)}
        for path in sorted(found.keys() - listed.keys()):
            raise BundleError("this file is not listed in the manifest. Remove it, or export the run again.", where=path)
        for path in sorted(listed.keys() - found.keys()):
            raise BundleError("this file is listed in the manifest and missing. Export the run again.", where=path)
        for path, size in found.items():
            if size != listed[path]:
                raise BundleError(
                    f"this file has {write_bytes(size)}, and the manifest says {write_bytes(listed[path])}. Export the run again.",
                    where=path,
                )


def foreign_file(path: Path) -> str | None:
    """What would be lost if a bundle at this path were replaced: a file that its manifest does not list; None if there is none.

    The bundle may be damaged or of another version: its files are compared by name alone.

    Raises:
        BundleError: it is no bundle, or a link to one.
    """
    try:
        if path.is_symlink():
            raise BundleError(_NOT_ONE)
        source: _Source = _Folder(path) if path.is_dir() else _Zip(path)
        sizes = source.sizes()
        plain = json.loads(source.read(MANIFEST, MAX_MANIFEST_BYTES)) if MANIFEST in sizes else None
        if not isinstance(plain, dict) or plain.get("format") != FORMAT or not isinstance(plain.get("files"), dict):
            raise BundleError(_NOT_ONE)
    except (BundleError, ValueError, RecursionError):
        raise BundleError(_NOT_ONE, where=str(path)) from None
    return min(sizes.keys() - plain["files"].keys() - {MANIFEST, DIGEST}, default=None)


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for folder, folders, names in os.walk(self._root):
            for name in (*folders, *names):
                path = Path(folder, name)
                inner = path.relative_to(self._root).as_posix()
                state = path.lstat()
                if stat.S_ISLNK(state.st_mode):
                    raise BundleError(
                        "this is a symbolic link, and a bundle holds plain files only. Do not use this bundle.", where=inner
                    )
                if stat.S_ISDIR(state.st_mode):
                    continue
                if not stat.S_ISREG(state.st_mode):
                    raise BundleError("this is no plain file. Do not use this bundle.", where=inner)
                found[inner] = state.st_size
                if len(found) > MAX_FILES:
                    raise BundleError(f"this folder has more than {MAX_FILES:,} files. {_NOT_ONE[0].upper()}{_NOT_ONE[1:]}")
        return found

    def read(self, path: str, max_bytes: int) -> bytes:
        try:
            descriptor = os.open(self._root / path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
            with os.fdopen(descriptor, "rb") as file:
                return file.read(max_bytes + 1)
        except OSError as error:
            raise BundleError(f"this file cannot be read ({error.strerror or error}).", where=path) from None


class _Zip:
    def __init__(self, path: Path) -> None:
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe or a device may never end
                raise BundleError(f"this is a pipe or a device. {_NOT_ONE[0].upper()}{_NOT_ONE[1:]}")
            self._zip = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
        except FileNotFoundError:
            raise BundleError("there is no such bundle.") from None
        except zipfile.BadZipFile:
            raise BundleError(_CUT_OFF if _begins_as_zip(path) else _NOT_ONE) from None
        except (OSError, NotImplementedError):
            raise BundleError(_NOT_ONE) from None

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        entries = self._zip.infolist()
        if len(entries) > MAX_FILES:
            raise BundleError(f"this zip file has more than {MAX_FILES:,} files. {_NOT_ONE[0].upper()}{_NOT_ONE[1:]}")
        for entry in entries:
            name = printable(entry.filename)
            if not is_inner_path(entry.filename):
                raise BundleError(
                    "this path leads out of the bundle, or has letters that no bundle uses. Do not use this bundle.",
                    where=name,
                )
            if entry.filename in found:
                raise BundleError("this file is in the zip file twice. Do not use this bundle.", where=name)
            mode = entry.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise BundleError("this is a symbolic link or no plain file. Do not use this bundle.", where=name)
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
                raise BundleError(
                    "this file is compressed or encrypted, and the files of a bundle are stored as they are. Do not use this bundle.",
                    where=name,
                )
            found[entry.filename] = entry.file_size
        return found

    def read(self, path: str, max_bytes: int) -> bytes:
        try:
            with self._zip.open(path) as file:
                return file.read(max_bytes + 1)
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise BundleError(f"this file cannot be read ({error}). Copy the bundle again.", where=path) from None


def _begins_as_zip(path: Path) -> bool:
    """Whether a file begins as a zip file does: one that was cut off has no directory at its end."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def write_bundle(path: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> str:
    """Write a bundle: one zip file if ``path`` ends with ``.zip``, else a new folder.

    Args:
        path: where; nothing may be there yet.
        manifest: its ``files`` are those of ``contents``.
        contents: the content of each file.

    Returns:
        The SHA-256 of the manifest, which is the identity of the bundle.
    """
    text = manifest.text()
    identity = digest(text)
    every = {MANIFEST: text.encode(), DIGEST: f"{identity}  {MANIFEST}\n".encode(), **contents}
    if path.suffix.lower() == ".zip":
        write_file(path, _zipped(every.items()))
        return identity
    for name, content in every.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file(target, content)
    return identity


def _zipped(contents: Iterable[tuple[str, bytes]]) -> bytes:
    """A zip file whose bytes depend on names and contents alone."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as target:
        for name, content in contents:
            entry = zipfile.ZipInfo(name, _ZIP_DATE)
            entry.external_attr = _REGULAR
            entry.create_system = 3
            target.writestr(entry, content)
    return stream.getvalue()
