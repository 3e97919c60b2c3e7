"""A session with a shard over a UDP socket: set-up, beats, and setting up again (docs/protocol.md, 4.3, 4.8, 6)."""

from __future__ import annotations

import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator

from mstream_wire import (
    ANONYMOUS, BAD_COOKIE, BEAT, CLAIM, CLOSE, COOKIE, ERROR, FENCED, FIXED, HEADER, HELLO, LOG_FULL, MAX_DATAGRAM,
    NONE, OPEN, OPENED, PLEASE_ANSWER, RESUME, SESSIONS_FULL, SHUTTING_DOWN, UNKNOWN_INCARNATION, VERSION, Fenced,
    MstreamError, fields, make_datagram, make_frame, parse,
)


class Session:
    """What publisher and subscriber share: socket, set-up, beats, and setting up again."""

    def __init__(self, address: tuple[str, int], publisher: int, incarnation: int | None, timeout: float) -> None:
        self.timeout, self.publisher, self.incarnation = timeout, publisher, incarnation or 0
        self.log_id, self.epoch, self.max_block, self.level = bytes(16), 0, 0, 0
        self._identity = ANONYMOUS if publisher == 0 else CLAIM if incarnation is None else RESUME
        self._claims = self._identity == CLAIM
        self._life = secrets.token_bytes(16)  # one for all tries: a repeated claim fences nobody
        self._slot, self._token, self._packet = NONE, 0, 0
        self._open = False  # there is a session
        self._handle: int | None = None  # of the publication or subscription in it
        self._asking = True  # the frame that makes the handle is to be sent until it is answered
        self._asked: float | None = None  # since when an answer is awaited
        family, kind, _, _, address = socket.getaddrinfo(*address[:2], type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(family, kind)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            self._socket.connect(address)
            self._until(lambda: self._handle is not None)
        except BaseException:
            self.close()
            raise

    def __enter__(self):  # type: ignore[no-untyped-def]
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the session at once, without waiting for acknowledgements."""
        if self._open:
            self._send([make_frame(CLOSE, 0, 0, 0)])
        self._open = False
        self._socket.close()

    def poll(self, wait: float = 0.0) -> None:
        """Takes what arrived and sends what is due; waits up to `wait` seconds for something to arrive."""
        end = time.monotonic() + wait
        while True:
            # What arrived comes first: a client that was away must not take its own silence for the shard's.
            arrived = self._open and self._receive(0.0)
            now = time.monotonic()
            if not self._open or self._asked and now - self._asked > 1.0:
                self._set_up()
            self._tick(time.monotonic())
            pause = min(end - now, 0.002 if self._asked else 0.05)
            if arrived or pause <= 0 or self._receive(pause):
                return

    def _until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + self.timeout
        while not done():
            if time.monotonic() > end:
                raise TimeoutError("no answer from the shard in time")
            self.poll(0.01)

    def _set_up(self) -> None:
        """Section 4.3: hello, cookie, open, opened, again and again until `timeout` is over."""
        self._open, self._handle, end = False, None, time.monotonic() + self.timeout
        while True:
            self._slot, self._token, self._packet, self.epoch = NONE, 0, -1, 0
            nonce = secrets.randbits(64)
            answer = self._ask(make_frame(HELLO, VERSION, VERSION, 0, nonce), COOKIE, nonce, end)
            if answer[0] == COOKIE:
                publisher, life = (self.publisher, self._life) if self._identity else (0, bytes(16))
                if self._identity == RESUME:
                    life = struct.pack("<Q8x", self.incarnation)
                cookie = fields(answer)[2]
                frame = make_frame(OPEN, self._identity, 0, nonce, cookie, publisher, life, 0, 0)
                answer = self._ask(frame, OPENED, nonce, end)
            if answer[0] == OPENED:
                return self._opened(answer)
            code, text = fields(answer)[0], answer[FIXED[ERROR].size :].rstrip(b"\0").decode("utf-8", "replace")
            if code == UNKNOWN_INCARNATION and self._claims:
                self._identity = CLAIM  # the log lost this life; how much else will be seen from the sequences
            elif code not in (BAD_COOKIE, SESSIONS_FULL, SHUTTING_DOWN, LOG_FULL):
                raise Fenced(code, text) if code == FENCED else MstreamError(code, text)
            time.sleep(0.1)

    def _ask(self, frame: bytes, want: int, nonce: int, end: float) -> bytes:
        """Sends `frame` until the frame `want` or an error comes (section 6, step 1)."""
        patience = 0.1
        while time.monotonic() < end:
            self._packet = -1  # datagrams outside a session have number 0
            self._transmit([frame])
            again = time.monotonic() + patience
            while (left := again - time.monotonic()) > 0:
                for slot, token, epoch, frames in self._datagrams(left):
                    for answer in frames:
                        at = 16 if answer[0] == ERROR else 8
                        if answer[0] in (want, ERROR) and struct.unpack_from("<Q", answer, at)[0] == nonce:
                            if answer[0] == OPENED:
                                self._slot, self._token, self.epoch = slot, token, epoch
                            return answer
            patience = min(2 * patience, 2.0)
        raise TimeoutError("no answer from the shard in time")

    def _opened(self, frame: bytes) -> None:
        self.max_block, _nonce, self.log_id, publisher, self.incarnation, credit, silence, *more = fields(frame)
        self.level = more[0]
        now = time.monotonic()
        self._open, self._packet, self._asked, self._longest = True, 0, None, min(10.0, silence / 3000)
        self._again(now)
        self._beat_soon(now)
        if self._identity != ANONYMOUS:
            self._identity = RESUME
        self._new_session(publisher, credit)

    def _transmit(self, frames: list[bytes]) -> None:
        self._packet += 1
        try:
            self._socket.send(make_datagram(self._slot, self._token, self._packet, self.epoch, frames))
        except OSError:
            pass  # as good as lost on the way (the shard's process may be down): it is sent again

    def _send(self, frames: Iterable[bytes]) -> None:
        """Sends frames in as few datagrams as they fit into."""
        waiting: list[bytes] = []
        for frame in frames:
            if waiting and HEADER.size + sum(map(len, waiting)) + len(frame) > MAX_DATAGRAM:
                self._transmit(waiting)
                waiting = []
            waiting.append(frame)
        if waiting:
            self._transmit(waiting)

    def _datagrams(self, wait: float) -> Iterator[tuple[int, int, int, list[bytes]]]:
        """Waits for a datagram, then takes up to 64 that are there; damaged ones are as good as lost."""
        for _ in range(64):
            self._socket.settimeout(max(wait, 0.0))
            wait = 0.0
            try:
                yield parse(self._socket.recv(2048))
            except ConnectionError:
                time.sleep(0.001)  # nobody listens there: the same as silence
            except (TimeoutError, BlockingIOError):
                return
            except ValueError:
                continue

    def _receive(self, wait: float) -> bool:
        arrived = False
        for slot, token, epoch, frames in self._datagrams(wait):
            if (slot, token) != (self._slot, self._token):
                continue
            arrived, self._asked = True, None
            for frame in frames:
                if frame[0] in (ERROR, CLOSE):
                    self._open = False
                    if fields(frame)[0] == FENCED:
                        raise Fenced(FENCED)
                    return True
                if frame[0] == BEAT and frame[1] & PLEASE_ANSWER:
                    self._send([make_frame(BEAT, NONE, 0, 0, fields(frame)[3])])
                self._take(frame, epoch)
        return arrived

    def _again(self, now: float) -> None:
        """Asks for the handle, or for lost messages, from `now` on."""
        self._asking, self._ask_at, self._ask_every = True, now, 0.01

    def _beat_soon(self, now: float) -> None:
        self._beat_at, self._beat_every, self._beaten = now + 0.01, 0.01, now

    def _tick(self, now: float) -> None:
        if self._asking and now >= self._ask_at:
            self._ask_at, self._ask_every = now + self._ask_every, min(2 * self._ask_every, 1.0)
            self._asked = self._asked or now
            self._send([self._request()])
        # Close together until the answer comes, so that one lost beat is not taken for a lost session.
        repeat = self._asked and now >= max(self._asked, self._beaten) + 0.1
        if self._handle is not None and (repeat or now >= self._beat_at):
            if now >= self._beat_at:
                self._beat_every = min(2 * self._beat_every, self._longest)
                self._beat_at = now + self._beat_every
            self._asked, self._beaten = self._asked or now, now
            self._send([make_frame(BEAT, NONE, 0, 0, time.monotonic_ns(), flags=PLEASE_ANSWER), *self._with_beat()])

    def _with_beat(self) -> list[bytes]:
        return []

    def _request(self) -> bytes:
        """The frame that opens the publication or subscription."""
        raise NotImplementedError

    def _new_session(self, publisher: int, credit: int) -> None:
        raise NotImplementedError

    def _take(self, frame: bytes, epoch: int) -> None:
        """Takes a frame of the session, from a datagram with `epoch`."""
        raise NotImplementedError
