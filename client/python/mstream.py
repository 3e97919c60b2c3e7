#!/usr/bin/env python3
"""A MemoryStreamer client in plain Python, standard library only, over a kernel UDP socket.

It follows docs/protocol.md, whose sections the comments name, and is meant to be read beside it: clear, not fast.

    from mstream import Publisher, Subscriber

    with Publisher(("127.0.0.1", 7500), "market-data", publisher=1) as publisher:
        publisher.publish([b"first", b"second"])    # one batch, stored and delivered as a whole
        publisher.flush()                           # returns when everything is acknowledged

    with Subscriber(("127.0.0.1", 7500), "market-data", start="earliest") as subscriber:
        for message in subscriber.receive(wait=1.0):
            print(message.offset, message.payload)

Nothing runs in the background: `publish`, `flush`, `receive` and `poll` do the work, and set up again when the shard
was restarted. What must not be passed over in silence is raised: Fenced, Diverged, OffsetGone, Refused,
OutcomeUnknown. As a program:

    python3 mstream.py pub 127.0.0.1:7500 market-data --publisher 1 < lines.txt
    python3 mstream.py sub 127.0.0.1:7500 market-data --from earliest

or, for messages that are not lines, each behind its length in 2 bytes, big-endian:

    python3 mstream.py pub 127.0.0.1:7500 market-data --framing u16be < session
    python3 mstream.py sub 127.0.0.1:7500 market-data --framing u16be --count 4000 > copy
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from mstream_session import Session
from mstream_wire import (
    ACK, BEAT, CREDIT, DELIVER, DIVERGED, FENCED, KINDS, LAST_ROUND, LIMIT_REACHED, LOG_FULL, NONE, OFFSET,
    OFFSET_GONE, OPEN_STREAM, PUBLISH, SKIP, STREAM_OPENED, SUBSCRIBE, SUBSCRIBED, TOO_LARGE, Diverged, Fenced, Message,
    MstreamError, OffsetGone, block_of, crc32c, decode_block, encode_block, fields, make_frame, padded,
)

__all__ = [
    "Batch", "Diverged", "Fenced", "Message", "MstreamError", "OffsetGone", "OutcomeUnknown", "Publisher", "Refused",
    "Subscriber", "crc32c",
]


class Refused(MstreamError):
    """Some batches were refused; each has its `code`. All others were acknowledged."""

    def __init__(self, batches: list[Batch]) -> None:
        super().__init__(batches[0].code, f"{len(batches)} batch(es) refused")
        self.batches = batches


class OutcomeUnknown(Exception):
    """An anonymous publisher lost its session: `batches` may be stored or not, and are not sent again."""

    def __init__(self, batches: list[Batch]) -> None:
        super().__init__(f"session lost with {len(batches)} unacknowledged batch(es) of an anonymous publisher")
        self.batches = batches


@dataclass
class Batch:
    """A published batch. `sequence`, of its first message, is final once it is acknowledged."""

    block: bytes
    count: int
    crc: int
    sequence: int
    acknowledged: bool = False
    code: int = 0  # why it was refused
    counted: bool = False  # in this session's credit

    @property
    def last(self) -> int:
        """Sequence of the last message."""
        return self.sequence + self.count - 1


class Publisher(Session):
    """Publishes to one stream.

    `publisher` is the id of a configured publisher, of which a new life is claimed, or the one that `incarnation`
    names is resumed; 0 publishes anonymously. `timeout` (seconds) limits set-up, `publish` and `flush`.
    """

    def __init__(self, address: tuple[str, int], stream: str, *, publisher: int = 0, incarnation: int | None = None,
                 timeout: float = 30.0) -> None:
        self.acknowledged, self.offset = 0, 0  # the last committed sequence, and the offset behind it
        self.round = 0
        self._stream, self._next = stream.encode(), 1
        self._batches: deque[Batch] = deque()  # not acknowledged, in order
        self._sent = 0  # how many of them were sent in this session and round
        self._refused: list[Batch] = []
        super().__init__(address, publisher, incarnation, timeout)

    def publish(self, messages: Iterable[bytes | Message]) -> Batch:
        """Publishes messages as one batch; returns when it was sent. After a TimeoutError it still waits to be."""
        block, count = encode_block(messages)
        if count == 0:
            raise ValueError("a batch has at least one message")
        if len(block) > self.max_block:
            raise MstreamError(TOO_LARGE, f"{len(block)} bytes, at most {self.max_block}")
        return self.publish_block(block, count)

    def publish_block(self, block: bytes, count: int) -> Batch:
        """Publishes a ready-made block that nobody checked: the shard refuses it if something is wrong with it."""
        batch = Batch(block, count, crc32c(block), self._next)
        self._next += count
        self._batches.append(batch)
        self.poll()
        self._until(lambda: self._sent == len(self._batches))
        return batch

    def flush(self) -> None:
        """Waits until each batch is acknowledged or refused; raises `Refused` if some were refused."""
        self._until(lambda: not self._batches)
        refused, self._refused = self._refused, []
        if refused:
            raise Refused(refused)

    def _request(self) -> bytes:
        return make_frame(OPEN_STREAM, 1, 0, len(self._stream), 0, 0, tail=padded(self._stream))

    def _new_session(self, publisher: int, credit: int) -> None:
        self._limit, self._used, self._sent, self._handle = credit, 0, 0, None
        self._moved(time.monotonic())
        for batch in self._batches:
            batch.counted = False
        if publisher != self.publisher:  # anonymous: somebody else from now on, with sequences of its own
            self.publisher, self.acknowledged, self._next, unknown = publisher, 0, 1, list(self._batches)
            self._batches.clear()
            if unknown:
                raise OutcomeUnknown(unknown)

    def _take(self, frame: bytes, epoch: int) -> None:
        if frame[0] == STREAM_OPENED and self._asking:
            _request, handle, code, _r, _stream, stored, round_, offset = fields(frame)
            self._stream_opened(handle, code, stored, round_, offset)
        elif frame[0] == ACK:
            handle, _received, _persisted, committed, offset, round_, refused, code, *_ = fields(frame)
            if handle == self._handle and round_ == LAST_ROUND:
                raise MstreamError(code, f"{self._stream.decode()} was deleted")
            if handle == self._handle and round_ >= self.round:
                self._acknowledge(committed, offset)
                if round_ > self.round:
                    self._refuse(round_, refused, code)
        elif frame[0] == CREDIT and fields(frame)[0] == NONE:
            self._limit = max(self._limit, fields(frame)[1])

    def _stream_opened(self, handle: int, code: int, stored: int, round_: int, offset: int) -> None:
        if code in (LIMIT_REACHED, LOG_FULL):
            return  # asked again
        if code:
            raise Fenced(code) if code == FENCED else MstreamError(code, self._stream.decode())
        if stored < self.acknowledged:
            raise Diverged(stored, f"sequence {self.acknowledged} was acknowledged, the log ends at {stored}")
        self._handle, self._asking, self.round = handle, False, round_
        self._acknowledge(stored, offset)
        if not self._batches:
            self._next = stored + 1
        elif self._batches[0].sequence != stored + 1:
            raise Diverged(stored, "somebody else published in this publisher's name")

    def _acknowledge(self, committed: int, offset: int) -> None:
        if committed > self.acknowledged:
            self.acknowledged, self.offset = committed, offset
            while self._batches and self._batches[0].last <= committed:
                self._batches.popleft().acknowledged = True
                self._sent = max(self._sent - 1, 0)
            self._moved(time.monotonic())
            self._beat_soon(self._moved_at)

    def _refuse(self, round_: int, sequence: int, code: int) -> None:
        """Section 4.5: takes the refused batch out, numbers what follows anew, sends it in the new round."""
        self.round = round_
        self._sent = sum(batch.last < sequence for batch in self._batches)
        if self._sent == len(self._batches):
            return  # nothing of ours
        gone = self._batches[self._sent]
        del self._batches[self._sent]
        gone.code = code
        self._used -= len(gone.block) if gone.counted else 0
        self._refused.append(gone)
        self._next = sequence
        for batch in list(self._batches)[self._sent :]:
            batch.sequence, self._next = self._next, self._next + batch.count

    def _moved(self, now: float) -> None:
        self._moved_at, self._patience = now, 0.002

    def _tick(self, now: float) -> None:
        super()._tick(now)
        if self._handle is None:
            return
        batches = list(self._batches)
        due: list[Batch] = []
        if not self._sent:
            self._moved(now)
        elif now - self._moved_at > self._patience:
            self._moved_at, self._patience = now, min(2 * self._patience, 0.1)
            due = batches[: min(self._sent, 64)]
        for batch in batches[self._sent :]:
            size = 0 if batch.counted else len(batch.block)
            if self._used + size > self._limit:
                break
            self._used, batch.counted, self._sent = self._used + size, True, self._sent + 1
            due.append(batch)
        if due:
            self._asked = self._asked or now
            self._send(map(self._publish_frame, due))

    def _publish_frame(self, batch: Batch) -> bytes:
        values = (batch.count, 0, self._handle, batch.crc, batch.sequence, self.round)
        return make_frame(PUBLISH, *values, tail=batch.block)


class Subscriber(Session):
    """Reads one stream.

    `start` is "earliest", "latest" or an offset. To go on where another subscriber stopped, give its `next` and its
    `position`: a log that lost what was read there raises `Diverged` instead of serving other messages. About
    `window` messages wait to be received at most. `timeout` (seconds) limits set-up.
    """

    def __init__(self, address: tuple[str, int], stream: str, *, start: str | int = "earliest",
                 position: tuple[bytes, int] = (bytes(16), 0), window: int = 1024, timeout: float = 30.0) -> None:
        if isinstance(start, str) and start not in KINDS:
            raise ValueError(f"start is earliest, latest or an offset, not {start}")
        self._kind, self.next = (KINDS[start], 0) if isinstance(start, str) else (OFFSET, start)
        self.position = position  # log id, and epoch of the last datagram that was used
        self.end = 0  # offset behind the last visible message, as far as heard
        self.skipped: list[tuple[int, int, int]] = []  # from, to, reason of offsets without content
        self._stream, self._window, self._limit = stream.encode(), window, 0
        self._messages: deque[Message] = deque()
        super().__init__(address, 0, None, timeout)

    def receive(self, wait: float = 0.0) -> list[Message]:
        """What arrived since the last call, in order; waits up to `wait` seconds for the first message."""
        end = time.monotonic() + wait
        self.poll()
        while not self._messages and (left := end - time.monotonic()) > 0:
            self.poll(left)
        messages = list(self._messages)
        self._messages.clear()
        if self._handle is not None and self._limit - self.next <= self._window // 2:
            self._limit = self.next + self._window
            self._send(self._with_beat())
        return messages

    def _with_beat(self) -> list[bytes]:
        return [make_frame(CREDIT, self._handle, self._limit)]

    def _request(self) -> bytes:
        log_id, epoch = self.position
        credit = max(self._window - len(self._messages), 1)
        return make_frame(SUBSCRIBE, 1, 0, self.next, credit, log_id, epoch, self._kind, len(self._stream), 0,
                      tail=padded(self._stream))

    def _new_session(self, publisher: int, credit: int) -> None:
        self.publisher, self._handle = publisher, None

    def _take(self, frame: bytes, epoch: int) -> None:
        if frame[0] == SUBSCRIBED:
            self._subscribed(frame, epoch)
        elif frame[0] == DELIVER:
            self._deliver(frame, epoch)
        elif frame[0] == SKIP:
            handle, first, to, reason = fields(frame)
            if handle == self._handle and first <= self.next < to:
                self.skipped.append((self.next, to, reason))
                self._advance(to, epoch)
        elif frame[0] == BEAT and fields(frame)[0] == self._handle:
            _handle, following, self.end, _time = fields(frame)
            if following > self.next and not self._asking:
                self._again(time.monotonic())

    def _subscribed(self, frame: bytes, epoch: int) -> None:
        _request, handle, code, _r, _stream, start, _earliest, end, limit, log_id = fields(frame)
        if code == OFFSET_GONE:
            raise OffsetGone(start)
        if code == DIVERGED:
            raise Diverged(start, f"what was read from offset {start} on is not in the log")
        if code not in (0, LIMIT_REACHED):
            raise MstreamError(code, self._stream.decode())
        if code or not self._asking:
            return
        if self._kind != OFFSET:
            self._kind, self.next = OFFSET, start
        self._handle, self._asking, self._limit, self.end = handle, False, limit, end
        self.position = (log_id, epoch)

    def _deliver(self, frame: bytes, epoch: int) -> None:
        count, _options, handle, crc, first, publisher = fields(frame)
        block = frame[block_of(frame)]
        if handle != self._handle or first + count <= self.next:
            return
        if first > self.next or crc32c(block) != crc:  # lost or damaged on the way
            if not self._asking:
                self._again(time.monotonic())
            return
        # A batch comes whole even if the start lies inside it.
        self._messages += [m for m in decode_block(block, first, publisher) if m.offset >= self.next]
        self._advance(first + count, epoch)

    def _advance(self, following: int, epoch: int) -> None:
        self.next, self.position, self._asking = following, (self.position[0], epoch), False
        self.end = max(self.end, following)
        self._beat_soon(time.monotonic())


def _messages(file: BinaryIO, framing: str) -> Iterator[bytes]:
    """The messages of an input, as `--framing` says that they follow each other."""
    if framing == "lines":
        for line in file:
            yield line.rstrip(b"\n")
        return
    while prefix := file.read(2):
        message = file.read(int.from_bytes(prefix, "big"))
        if len(prefix) < 2 or len(message) < int.from_bytes(prefix, "big"):
            raise ValueError("the input ends inside a message")
        yield message


def _main() -> int:
    parser = argparse.ArgumentParser(description="Publish messages to a stream, or print a stream.")
    commands = parser.add_subparsers(dest="command", required=True)
    pub = commands.add_parser("pub", help="publish the messages of standard input")
    sub = commands.add_parser("sub", help="print each message, a line with its offset before it")
    for command in (pub, sub):
        command.add_argument("address", metavar="HOST:PORT", help="such as 10.0.0.1:7500 or [fd00::1]:7500")
        command.add_argument("stream")
        command.add_argument("--framing", choices=("lines", "u16be"), default="lines",
                             help="lines (default), or each message behind its length in 2 bytes, big-endian")
    pub.add_argument("--publisher", type=int, default=0, help="id of a configured publisher; default anonymous")
    sub.add_argument("--from", dest="start", default="earliest", help="earliest (default), latest or an offset")
    sub.add_argument("--count", type=int, default=-1, help="end after so many messages")
    args = parser.parse_args()
    host, _, port = args.address.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not port.isdigit():
        parser.error(f"{args.address} is not HOST:PORT")
    try:
        if args.command == "pub":
            with Publisher((host, int(port)), args.stream, publisher=args.publisher) as publisher:
                for message in _messages(sys.stdin.buffer, args.framing):
                    publisher.publish([message])
                publisher.flush()
                print(f"acknowledged up to sequence {publisher.acknowledged}, offset {publisher.offset}")
            return 0
        start = int(args.start) if args.start.isdigit() else args.start
        with Subscriber((host, int(port)), args.stream, start=start) as subscriber:
            left = args.count
            while left:
                for message in subscriber.receive(wait=1.0)[: left if left > 0 else None]:
                    if args.framing == "lines":
                        sys.stdout.buffer.write(b"%d %s\n" % (message.offset, message.payload))
                    else:
                        sys.stdout.buffer.write(len(message.payload).to_bytes(2, "big") + message.payload)
                    left -= 1
                sys.stdout.flush()
        return 0
    except (MstreamError, OutcomeUnknown, OSError, ValueError) as error:
        print(f"mstream.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(_main())
