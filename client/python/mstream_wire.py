"""Datagrams, frames and blocks of the MemoryStreamer protocol: docs/protocol.md, sections 3 to 5, as bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

VERSION = 1
MAX_DATAGRAM = 1436  # what a sender uses of the 1,452 bytes
NONE = 0xFFFFFFFF  # no slot, no handle
HELLO, COOKIE, OPEN, OPENED, CLOSE, ERROR, BEAT, CREDIT = range(0x01, 0x09)
PUBLISH, DELIVER, ACK, OPEN_STREAM, STREAM_OPENED, SUBSCRIBE, SUBSCRIBED, SKIP = range(0x10, 0x18)
ANONYMOUS, CLAIM, RESUME = range(3)
KINDS = {"earliest": 0, "latest": 1}
OFFSET = 2
BEGIN, END = 1, 2  # flags of a message
PLEASE_ANSWER = 1  # flag of a beat
CODES = dict(enumerate((
    "ok", "unknown session", "bad cookie", "sessions full", "unknown publisher", "fenced", "unknown incarnation",
    "unknown stream", "wrong version", "too large", "malformed block", "unsupported", "overlap", "offset gone",
    "diverged", "limit reached", "shutting down", "moved", "log full", "log poisoned")))
BAD_COOKIE, SESSIONS_FULL, FENCED, UNKNOWN_INCARNATION, TOO_LARGE = 2, 3, 5, 6, 9
LAST_ROUND = (1 << 64) - 1
OFFSET_GONE, DIVERGED, LIMIT_REACHED, SHUTTING_DOWN, LOG_FULL = 13, 14, 15, 16, 18

HEADER = struct.Struct("<BBBBIQQII")
MESSAGE = struct.Struct("<IBBH")
FIXED = {  # the fixed part of each frame, from its type on
    HELLO: struct.Struct("<BBHBBHQ1152x"), COOKIE: struct.Struct("<BBHB3xQ24s"),
    OPEN: struct.Struct("<BBHBxHQ24sQ16sQQ"), OPENED: struct.Struct("<BBHIQ16sQQQIBBBxQQ"),
    CLOSE: struct.Struct("<BBHHHQ"), ERROR: struct.Struct("<BBHHHQQ"), BEAT: struct.Struct("<BBHIQQQ"),
    CREDIT: struct.Struct("<BBHIQ"), PUBLISH: struct.Struct("<BBHHHIIQQ"), DELIVER: struct.Struct("<BBHHHIIQQ"),
    ACK: struct.Struct("<BBHIQQQQQQHBBB11x"), OPEN_STREAM: struct.Struct("<BBHIQHHI"),
    STREAM_OPENED: struct.Struct("<BBHIIHHQQQQ16x"), SUBSCRIBE: struct.Struct("<BBHIQQQ16sIBxHQ"),
    SUBSCRIBED: struct.Struct("<BBHIIHHQQQQQ16s"), SKIP: struct.Struct("<BBHIQQH6x"),
}


class MstreamError(Exception):
    """The shard said no; `code` is one of section 5."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(f"{CODES.get(code, code)}: {text}" if text else str(CODES.get(code, code)))
        self.code = code


class Fenced(MstreamError):
    """A newer life of this publisher exists; this one can publish nothing more."""


class Diverged(MstreamError):
    """The log lost what this client knew of it beyond the offset (publisher: sequence) `common`."""

    def __init__(self, common: int, text: str) -> None:
        super().__init__(DIVERGED, text)
        self.common = common


class OffsetGone(MstreamError):
    """The offset is not held any more; `earliest` is the first one that is."""

    def __init__(self, earliest: int) -> None:
        super().__init__(OFFSET_GONE, f"the first offset held is {earliest}")
        self.earliest = earliest


@dataclass(frozen=True)
class Message:
    """A message. Received ones also have their `offset` and the id of their `publisher`."""

    payload: bytes
    key: bytes = b""
    headers: bytes = b""
    offset: int = -1
    publisher: int = 0


def _crc_table() -> Iterator[int]:
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        yield value


_TABLE = tuple(_crc_table())


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC32C of `data`, going on from the CRC of what came before."""
    table, crc = _TABLE, crc ^ 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def make_frame(kind: int, *values: object, flags: int = 0, tail: bytes = b"") -> bytes:
    fixed = FIXED[kind]
    return fixed.pack(kind, flags, fixed.size + len(tail), *values) + tail


def fields(frame: bytes) -> tuple:
    """The fields of a frame's fixed part behind type, flags and length."""
    return FIXED[frame[0]].unpack_from(frame)[3:]


def encode_block(messages: Iterable[bytes | Message]) -> tuple[bytes, int]:
    """The block of a batch (section 4.2) and the number of its messages."""
    block, count = bytearray(), 0
    for message in messages:
        m = message if isinstance(message, Message) else Message(message)
        body = m.key + m.headers + m.payload
        block += padded(MESSAGE.pack(len(body), BEGIN | END, len(m.key), len(m.headers)) + body)
        count += 1
    return bytes(block), count


def decode_block(block: bytes, offset: int, publisher: int) -> Iterator[Message]:
    """The messages of a block whose first one has `offset`."""
    at = 0
    while at < len(block):
        length, _flags, key, headers = MESSAGE.unpack_from(block, at)
        body = block[at + 8 : at + 8 + length]
        if len(body) < length or key + headers > length:
            raise ValueError("a message reaches beyond its block")
        yield Message(body[key + headers :], body[:key], body[key : key + headers], offset, publisher)
        at, offset = at + 8 + length + -length % 8, offset + 1


def block_of(frame: bytes) -> slice:
    """Where the block stands in a publish or deliver frame."""
    end = len(frame) - fields(frame)[1]
    if end < FIXED[PUBLISH].size + 8:
        raise ValueError("a data frame without a block")
    return slice(FIXED[PUBLISH].size, end)


def frame_check(header: bytes, frames: Iterable[bytes]) -> int:
    """The frame check (section 3.1): everything but itself and the blocks."""
    crc = crc32c(header[:28])
    for frame in frames:
        if frame[0] in (PUBLISH, DELIVER):
            block = block_of(frame)
            frame = frame[: block.start] + frame[block.stop :]
        crc = crc32c(frame, crc)
    return crc


def parse(datagram: bytes) -> tuple[int, int, int, list[bytes]]:
    """Slot, token, epoch and frames of a datagram; ValueError if anything is wrong with it (sections 3 and 4)."""
    if len(datagram) < HEADER.size or datagram[0] != VERSION or datagram[1] & 3:
        raise ValueError("not a datagram of this version")
    *_, slot, token, _number, epoch, check = HEADER.unpack_from(datagram)
    frames, at = [], HEADER.size
    while at < len(datagram):
        frame = datagram[at : at + int.from_bytes(datagram[at + 2 : at + 4], "little")]
        if len(frame) < 8 or len(frame) % 8 or int.from_bytes(frame[2:4], "little") != len(frame):
            raise ValueError("a frame's length is wrong")
        if len(frame) < FIXED[frame[0]].size if frame[0] in FIXED else frame[0] < 0x80:
            raise ValueError("a frame is too short or of an unknown type")
        frames.append(frame)
        at += len(frame)
    if frame_check(datagram, frames) != check:
        raise ValueError("the frame check is wrong")
    return slot, token, epoch, frames


def make_datagram(slot: int, token: int, number: int, epoch: int, frames: list[bytes]) -> bytes:
    """A datagram of a session, or outside one, with these frames."""
    header = HEADER.pack(VERSION, 0, 0, 0, slot, token, number, epoch, 0)
    return header[:28] + struct.pack("<I", frame_check(header, frames)) + b"".join(frames)
