"""Ways to spoil bytes, texts, numbers and JSON, whatever they are part of. All draw from one random.Random and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

ODD_NUMBERS = (
    "nan", "inf", "-inf", "0", "-0", "-1", "1e308", "-1e308", "1e-308", "1e400", "0.1", "2147483647", "2147483648", "-2147483648",
    "4294967296", "9223372036854775807", "18446744073709551616", "9" * 40, "1" * 5000, "0x10", "1,5", "1_000", "٣", "½", "+3",
    "", " ", "abc", "None", "True", "1e", "--1", "1/0", "\x1b[31m7", "\u202e7",
)  # fmt: skip
ODD_TEXTS = (
    "", " ", "\0", "\x1b[2J\x07", "\ufeff", "\u202egpj", "é", "日本", "=cmd|' /C calc'!A0", "<script>alert(1)</script>", "%s%n%d",
    "../../etc/passwd", "C:\\x", "a" * 300, "b" * 100_000, "NaN", "null", "'; DROP TABLE x;--", '"', ",", ";", "\t", "\r", "\n",
)  # fmt: skip
ODD_BYTES = (
    b"\xff\xfe",
    b"\x80",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\0",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
)
JUNK = (
    b"", b"\0" * 4096, b"<html>404 Not Found</html>", b"PK\x03\x04", b"\x1f\x8b\x08\0", b"\x89PNG\r\n\x1a\n",
    b"\x89HDF\r\n\x1a\n",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n", b"\x80\x04\x95", b"II*\0\x08\0\0\0",
    b"BM" + b"\0" * 60,
    b"GIF89a\1\0\1\0\0\0\0;", b"%PDF-1.7\n", b"\xef\xbb\xbf", b"\xff\xd8\xff\xe0",
)  # fmt: skip


def spoil_bytes(random: Random, data: bytes) -> bytes:
    """One to three changes to some bytes; now and then something else altogether."""
    if random.random() < 0.05:
        return random.choice(JUNK)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = random.choice(_BYTE_CHANGES)(random, data)
    return data


def _place(random: Random, data: bytes) -> int:
    """Any place, a header's more often than others."""
    return random.randrange(min(len(data), random.choice((64, 512, len(data)))) + 1) if data else 0


def _flip(random: Random, data: bytes) -> bytes:
    spoilt = bytearray(data)
    for _ in range(random.choice((1, 1, 4, 32)) if data else 0):
        spoilt[min(_place(random, data), len(data) - 1)] ^= 1 << random.randrange(8)
    return bytes(spoilt)


def _cut(random: Random, data: bytes) -> bytes:
    return data[: _place(random, data)]


def _drop(random: Random, data: bytes) -> bytes:
    start = _place(random, data)
    return data[:start] + data[start + random.choice((1, 2, 4, 7, 64, 1000)) :]


def _double(random: Random, data: bytes) -> bytes:
    start = _place(random, data)
    return data[:start] + data[start : start + random.choice((1, 4, 64, 5000))] * 2 + data[start:]


def _swap(random: Random, data: bytes) -> bytes:
    a, b = sorted((_place(random, data), _place(random, data)))
    size = min(random.choice((1, 4, 16)), b - a)
    return data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]


def _overwrite(random: Random, data: bytes) -> bytes:
    start, piece = _place(random, data), random.choice(ODD_BYTES)
    return data[:start] + piece + data[start + len(piece) :]


def _insert(random: Random, data: bytes) -> bytes:
    start = _place(random, data)
    return data[:start] + random.choice((*ODD_BYTES, random.randbytes(50))) + data[start:]


def _append(random: Random, data: bytes) -> bytes:
    return data + random.choice((b"\0", b"\n", random.randbytes(random.choice((1, 100, 5000))), data))


_BYTE_CHANGES: tuple[Callable[[Random, bytes], bytes], ...] = (
    _flip,
    _flip,
    _cut,
    _drop,
    _double,
    _swap,
    _overwrite,
    _insert,
    _append,
)


def spoil_fields(random: Random, fields: Sequence[tuple[str, str]], odd: dict[str, Sequence[str]]) -> list[tuple[str, str]]:
    """A header of names and values with one to three fields changed, left out, doubled, exchanged or renamed.

    Args:
        random: where chance comes from.
        fields: of the whole file.
        odd: name -> values that mean something to a reader of this format; others are drawn from all odd ones.
    """
    spoilt = list(fields)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if not spoilt:
            break
        k = random.randrange(len(spoilt))
        name, value = spoilt[k]
        way = random.random()
        if way < 0.65:
            spoilt[k] = name, odd_value(random, value, odd.get(name, ()))
        elif way < 0.75:
            del spoilt[k]
        elif way < 0.85:
            spoilt.insert(random.randrange(len(spoilt) + 1), (name, odd_value(random, value, odd.get(name, ()))))
        elif way < 0.93:
            other = random.randrange(len(spoilt))
            spoilt[k], spoilt[other] = spoilt[other], spoilt[k]
        else:
            spoilt[k] = random.choice((name.lower(), name.upper(), name + " ", random.choice(ODD_TEXTS)[:200])), value
    return spoilt


def odd_value(random: Random, value: str, known: Sequence[str] = ()) -> str:
    """Another value for a field: one known to be nasty, one number in it changed, a text."""
    if known and random.random() < 0.5:
        return random.choice(known)
    words = value.split()
    if words and random.random() < 0.8:
        way = random.random()
        if way < 0.7:
            words[random.randrange(len(words))] = random.choice(ODD_NUMBERS)
        elif way < 0.85:
            words.append(random.choice(ODD_NUMBERS))
        else:
            words.pop()
        return " ".join(words)
    return random.choice(ODD_TEXTS)


def odd_json(random: Random) -> Any:
    """A value of another kind than whatever should stand there."""
    return random.choice(
        (
            None, True, 0, -1, 1, 3, 2**31, 2**63, 10**30, 0.5, float("nan"), float("inf"), -1e308, "", "x", "64",
            "a" * 5000, [], {}, [0],
            [1], [-1, -1], [10**9, 10**9], [64], [64, 64, 64, 64], [64.5, 64], ["64", "64"], [[64, 64]], [None, None],
            {"a": 1}, {"": {}},
            [True, False], [float("nan")] * 2, ["../x"], "\x1b[31m", "\ud800", [0] * 2000, [2**40] * 4, [1, 1, 1, 1, 1, 1],
        )
    )  # fmt: skip


def spoil_json(random: Random, good: Any) -> bytes:
    """A JSON text whose tree has other values, keys or kinds in places; or that is no JSON any more."""
    way = random.random()
    text = json.dumps(good)
    if way < 0.12:
        return spoil_bytes(random, text.encode())
    if way < 0.18:
        depth = random.choice((50, 900, 3000, 100_000))
        return random.choice((b"[", b'{"a":')) * depth + random.choice((b"", b"1" + b"]" * depth))
    if way < 0.22:
        return json.dumps(odd_json(random)).encode()
    if way < 0.25:
        return text.encode(random.choice(("utf-16", "utf-32", "utf-8-sig")))
    tree = json.loads(text)
    for _ in range(random.choice((1, 1, 2, 3))):
        _spoil_tree(random, tree)
    return json.dumps(tree).encode()


def _spoil_tree(random: Random, tree: Any) -> None:
    places = list(_places(tree))
    if not places:
        return
    parent, key = random.choice(places)
    way = random.random()
    if way < 0.15 and isinstance(parent, dict):
        del parent[key]
    elif way < 0.22 and isinstance(parent, dict):
        parent[random.choice(ODD_TEXTS)[:100]] = parent.pop(key)
    elif way < 0.3:
        parent[key] = [parent[key]]
    elif way < 0.4 and isinstance(parent[key], int):
        parent[key] = parent[key] * random.choice((2, -1, 0, 1000, 10**6, 10**12)) + random.choice((0, 1, -1))
    else:
        parent[key] = odd_json(random)


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        found += [(tree, key), *_places(tree[key])]
    return found
