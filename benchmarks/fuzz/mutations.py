"""Mutations of bodies: of any bytes, and of content behind checksums and lengths."""

import dataclasses
import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random

from benchmarks.fuzz import parquet
from benchmarks.fuzz.bodies import Body, frame, zip_of

MAX_BYTES = 2**18
_OTHER_TYPE_SHARE = 0.02
_INSIDE_SHARE = 0.6  # of the formats that have an inside
_MUTATION_COUNTS = (1, 1, 1, 1, 2, 3, 6)
_BYTES = (0, 1, 0x0C, 0x15, 0x19, 0x2C, 0x7F, 0x80, 0xFE, 0xFF, *b'"[]{},:;\n\r\t \\-+.eE#')
_NUMBERS = (0, 1, 2, 127, 128, 255, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
_WORDS = (
    *(
        b"nan",
        b"NaN",
        b"inf",
        b"-Infinity",
        b"null",
        b"true",
        b"1e999",
        b"-0.0",
        b"1e-400",
        b"0x1p3",
    ),
    *(b"9" * 400, b"1." + b"3" * 999, b"4294967295", b"-1", b"2147483648", b"9223372036854775808"),
    *(
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\0" * 8,
        b"[" * 2000,
        b'{"a":' * 500,
        b'"',
        b"1_0",
        b"\xd9\xa1",
    ),
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


def mutate(body: Body, others: Sequence[Body], random: Random) -> Body:
    """Spoil a body; at times it keeps its meaning.

    Args:
        others: Whose parts are put in.
    """
    data = body.data
    is_gzip = body.headers.get("Content-Encoding") == "gzip"
    if is_gzip and random.random() < _INSIDE_SHARE:
        inside = _mutate_format(body.kind, gzip.decompress(data), others, random)
        data = gzip.compress(inside, 1, mtime=0)
        if random.random() < _INSIDE_SHARE / 2:
            data += gzip.compress(data, 1, mtime=0)
    else:
        data = _mutate_format(body.kind, data, others, random)
    content_type = body.content_type
    if random.random() < _OTHER_TYPE_SHARE:
        content_type = random.choice(others).content_type
    return dataclasses.replace(body, data=data[:MAX_BYTES], content_type=content_type)


def _mutate_format(kind: str, data: bytes, others: Sequence[Body], random: Random) -> bytes:
    inside = _INSIDES.get(kind.removesuffix("+gzip"))
    if inside is not None and random.random() < _INSIDE_SHARE:
        try:
            data = inside(data, random)
        except (ValueError, IndexError, KeyError, struct.error, zipfile.BadZipFile, zlib.error):
            return mutate_bytes(data, others, random)
        if random.random() < _INSIDE_SHARE:
            return data
    return mutate_bytes(data, others, random)


def mutate_bytes(data: bytes, others: Sequence[Body], random: Random) -> bytes:
    """Flip bits, cut, splice, repeat, and write extreme numbers, in any bytes."""
    for _ in range(random.choice(_MUTATION_COUNTS)):
        data = random.choice(_MUTATIONS)(data, random)
        if random.random() < 0.1:
            other = random.choice(others).data
            start, at = random.randrange(len(other) + 1), random.randrange(len(data) + 1)
            data = data[:at] + other[start : start + random.randint(1, 200)] + data[at:]
        data = data[:MAX_BYTES]
    return data


def _flip(data: bytes, random: Random) -> bytes:
    spoilt = bytearray(data)
    for _ in range(min(len(data), random.choice((1, 1, 1, 2, 8)))):
        spoilt[random.randrange(len(spoilt))] ^= 1 << random.randrange(8)
    return bytes(spoilt)


def _overwrite(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    piece = random.choice(
        (
            bytes([random.choice(_BYTES)]),
            random.randbytes(random.randint(1, 8)),
            (random.choice(_NUMBERS) & 2**32 - 1).to_bytes(4, random.choice(("little", "big"))),
            random.choice(_NUMBERS).to_bytes(8, random.choice(("little", "big"))),
        )
    )
    return data[:at] + piece + data[at + len(piece) :]


def _insert(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    piece = random.choice((bytes([random.choice(_BYTES)]), random.choice(_WORDS)))
    return data[:at] + piece + data[at:]


def _truncate(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _delete(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + data[at + random.choice((1, 1, 2, 4, 8, 64)) :]


def _repeat(data: bytes, random: Random) -> bytes:
    start = random.randrange(len(data) + 1)
    end = start + random.choice((1, 8, 64, 1000))
    return data[:end] + data[start:end] * random.choice((1, 1, 2, 30)) + data[end:]


def _renumber(data: bytes, random: Random) -> bytes:
    """Put another number in place of one in text."""
    found = [*_NUMBER.finditer(data[:5000])]
    if not found:
        return data
    number = random.choice(found)
    return data[: number.start()] + random.choice(_WORDS) + data[number.end() :]


_MUTATIONS = (_flip, _flip, _overwrite, _overwrite, _insert, _truncate, _delete, _repeat, _renumber)


def _inside_npy(data: bytes, random: Random) -> bytes:
    """Change the text of the header and keep its length right."""
    (length,) = struct.unpack_from("<H", data, 8)
    header = random.choice((_renumber, _overwrite, _delete))(data[10 : 10 + length], random)
    return data[:8] + struct.pack("<H", len(header) & 0xFFFF) + header + data[10 + length :]


def _inside_npz(data: bytes, random: Random) -> bytes:
    """Change members, and keep directory and checksums right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice([*members])
    change = random.choice((_inside_npy, _overwrite, _flip, _truncate, _repeat))
    members[name] = change(members[name], random)
    if random.random() < 0.2:
        members[random.choice([*members])] = random.choice([*members.values()])
    if random.random() < 0.1:
        del members[random.choice([*members])]
    return zip_of(members, is_packed=random.random() < 0.5)


def _inside_recordio(data: bytes, random: Random) -> bytes:
    """Change a record, and keep its frame right."""
    records, offset = [], 0
    while offset < len(data):
        (length,) = struct.unpack_from("<I", data, offset + 4)
        records.append(data[offset + 8 : offset + 8 + length])
        offset += 8 + length + -length % 4
    index = random.randrange(len(records))
    records[index] = random.choice((_flip, _overwrite, _truncate, _repeat))(records[index], random)
    return b"".join(map(frame, records))


_INSIDES: dict[str, Callable[[bytes, Random], bytes]] = {
    "npy": _inside_npy,
    "npz": _inside_npz,
    "recordio": _inside_recordio,
    "parquet": parquet.mutate,
}
