"""Images and masks of one size in memory-mapped files, with a table: what the stores of slices and of volumes share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from spider_utils.errors import DataError
from spider_utils.files import atomic_folder, read_csv, read_json_object, require_free_space, write_csv, write_json
from spider_utils.labels import SCHEMES, ConversionReport, convert

_PIECE_BYTES = 1 << 20
_FIX = "Delete the folder; it is rebuilt."


class ArrayStore:
    """Images and masks of one size in memory-mapped files, with a table.

    Attributes:
        what: what a message calls it.
        version: raised whenever the numbers or the table of a store would come out differently.
        folder: where it lies.
        images: (n, ...), memory-mapped.
        masks: (n, ...) uint8, memory-mapped, in ``scheme``.
        table: one row an item.
        scheme: label scheme of the masks.
        kind: of the source that they come from.
        fingerprint: changes when an item, as it is stored here, changes.
        key: changes with everything that the store was made from: files, tables, settings, version.
    """

    what: ClassVar[str]
    version: ClassVar[int]

    def __init__(self, folder: Path, card: dict, images: np.ndarray, masks: np.ndarray, table: pd.DataFrame):
        self.folder, self.images, self.masks, self.table, self._card = folder, images, masks, table, card
        self.scheme, self.fingerprint, self.kind, self.key = card["scheme"], card["fingerprint"], card["kind"], card["key"]

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open a store. Raises DataError when it is missing, incomplete or of another version."""
        folder = Path(folder)
        card = read_json_object(folder / "store.json")
        if card.get("version") != cls.version:
            raise DataError(folder, f"the {cls.what} has version {str(card.get('version'))[:40]}, not {cls.version}", _FIX)
        try:
            images = np.load(folder / "images.npy", mmap_mode="r")
            masks = np.load(folder / "masks.npy", mmap_mode="r")
            table = read_csv(folder / "table.csv", keep_default_na=False)
        except Exception as error:  # numpy evaluates an array's header as Python text, which has many ways to be wrong
            raise DataError(folder, f"the {cls.what} is damaged ({str(error)[:100]})", _FIX) from error
        counts = card.get("counts")
        if not all(isinstance(card.get(key), str) for key in ("scheme", "fingerprint", "kind", "key")) or not (
            isinstance(counts, dict)
            and all(value.isdecimal() and int(value) < 256 and type(count) is int for value, count in counts.items())
        ):
            raise DataError(folder / "store.json", f"the {cls.what} is damaged: its card lacks something", _FIX)
        if card["scheme"] not in SCHEMES:
            raise DataError(folder / "store.json", f"the {cls.what} is damaged: '{card['scheme'][:40]}' is no label scheme", _FIX)
        if lacking := [name for name in ("case", "patient") if name not in table]:
            raise DataError(folder / "table.csv", f"the {cls.what} is damaged: its table lacks {lacking[0]}", _FIX)
        numbers = images.dtype.kind in "uif" and masks.dtype == np.uint8
        if images.shape != masks.shape or not numbers or len(images) != len(table):
            raise DataError(folder, f"the {cls.what} is damaged: its parts differ in length, size or type", _FIX)
        return cls(folder, card, images, masks, table)

    @classmethod
    def write(
        cls,
        folder: Path,
        parts: Iterable[tuple[np.ndarray, np.ndarray, pd.DataFrame]],
        card: dict[str, Any],
        served: Sequence[str] = (),
        n_items: int | None = None,
    ) -> None:
        """Write a store, beside first and then renamed; one part after the other, so that one is in memory at a time.

        Args:
            folder: of the store.
            parts: one or more: images (n, ...) of one dtype and size, masks uint8 of the same shape, and n rows of the table.
            card: ``kind`` and ``scheme`` of the source, ``key`` (what the store was made from; it is made anew when that
                changes), and what else to remember.
            served: columns of numbers of the table that what is served depends on; they belong to the fingerprint.
            n_items: how many items will come, where that is known: space on the disk is looked for first.

        Raises:
            DataError: the disk is full, or the folder cannot be written.
        """
        tables, counts = [], np.zeros(256, np.int64)
        with atomic_folder(folder, marker="store.json") as partial:
            with ExitStack() as files:
                for images, masks, rows in parts:
                    if not tables:
                        item = int(np.prod(images.shape[1:])) * (images.itemsize + 1)
                        require_free_space(folder.parent, (n_items or len(images)) * item + 10_000_000, f"the {cls.what}")
                        add_images, add_masks = (
                            files.enter_context(closing(_Growing(partial / f"{name}.npy", array.shape[1:], array.dtype)))
                            for name, array in (("images", images), ("masks", masks))
                        )
                    add_images.append(images)
                    add_masks.append(masks)
                    tables.append(rows)
                    counts += np.bincount(masks.reshape(-1), minlength=256)
            table = pd.concat(tables, ignore_index=True)
            write_csv(partial / "table.csv", table)
            digest = hashlib.sha256(table[list(served)].to_numpy(np.float64).tobytes())
            for name in ("images", "masks"):
                _add_voxels(digest, partial / f"{name}.npy")
            facts = {
                "version": cls.version,
                "size": list(images.shape[1:]),
                "fingerprint": digest.hexdigest()[:16],
                "counts": {str(value): int(count) for value, count in enumerate(counts) if count},
            }
            write_json(partial / "store.json", facts | card)

    def lookup(self, scheme: str) -> tuple[np.ndarray, ConversionReport]:
        """A 256-entry table from stored mask values to ``scheme``, and what it drops over the whole store."""
        counts = {int(value): count for value, count in self._card["counts"].items()}
        table, report = np.zeros(256, np.uint8), ConversionReport()
        for value, count in counts.items():
            one = ConversionReport()
            table[value] = convert(np.array([value], np.uint8), self.scheme, scheme, one)[0]
            report.add(ConversionReport({v: count for v in one.dropped}, {v: count for v in one.partial}))
        return table, report

    def __len__(self) -> int:
        return len(self.table)

    def __reduce__(self) -> tuple:
        # Worker processes map the files anew instead of being sent a copy of everything.
        return type(self).open, (self.folder,)


class _Growing:
    """An .npy file that grows along its first axis; its header, which numpy pads for this, is written again at the end."""

    def __init__(self, path: Path, size: tuple[int, ...], dtype: np.dtype):
        self.size, self.dtype, self.length = size, dtype, 0
        self.file = open(path, "wb")
        self._write_header()
        self.start = self.file.tell()

    def _write_header(self) -> None:
        shape = (self.length, *self.size)
        facts = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, facts)

    def append(self, array: np.ndarray) -> None:
        if (array.shape[1:], array.dtype) != (self.size, self.dtype):
            raise ValueError(f"items must be {self.size} of {self.dtype}, not {array.shape[1:]} of {array.dtype}")
        self.file.write(np.ascontiguousarray(array).data)
        self.length += len(array)

    def close(self) -> None:
        with self.file:
            self.file.seek(0)
            self._write_header()
            if self.file.tell() != self.start:
                raise RuntimeError("numpy's header has another length now: it no longer pads the first axis")


def _add_voxels(digest: hashlib._Hash, path: Path) -> None:
    """Add what an .npy file holds to a digest, piece by piece: the pages of a mapped file would stay in memory."""
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)


def is_store(folder: Path, key: str) -> bool:
    """Whether ``folder`` holds a whole store that was made from what ``key`` stands for."""
    return (folder / "store.json").is_file() and read_json_object(folder / "store.json").get("key") == key
