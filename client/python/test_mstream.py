"""The Python client against a real mstreamd, named by the environment's MSTREAMD.

    MSTREAMD=target/debug/mstreamd python3 -m unittest client/python/test_mstream.py
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mstream  # noqa: E402
from mstream_wire import encode_block  # noqa: E402

STREAM = "market-data"
PUBLISHER = 1
CONFIG = """
[node]
id = 1
admin = "off"
run_dir = "{directory}/run"
[[port]]
name = "udp"
driver = "socket"
ip = "127.0.0.1"
[[port]]
name = "udp6"
driver = "socket"
ip6 = "::1"
[[shard]]
core = {core}
ports = ["udp", "udp6"]
udp_port = {port}
idle = "yield"
[wal]
dir = "{directory}/wal"
segment_bytes = "1 MiB"
max_bytes = "8 MiB"
[[stream]]
id = 1
name = "market-data"
shard = 0
[[publisher]]
id = 1
name = "feed-handler"
"""


def skip(reason: str) -> None:
    print(f"SKIP python-client: {reason}", flush=True)
    raise unittest.SkipTest(reason)


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Lossy:
    """A socket that loses every so many datagrams in both directions, chosen by a seed."""

    def __init__(self, inner: socket.socket, seed: int) -> None:
        self._inner, self._random = inner, random.Random(seed)
        self.lost = 0

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    def _loses(self) -> bool:
        lost = self._random.random() < 0.2
        self.lost += lost
        return lost

    def send(self, datagram: bytes) -> int:
        return len(datagram) if self._loses() else self._inner.send(datagram)

    def recv(self, size: int) -> bytes:
        while True:
            datagram = self._inner.recv(size)
            if not self._loses():
                return datagram


class Server(unittest.TestCase):
    """Each test has an mstreamd and a log of its own."""

    def setUp(self) -> None:
        self.binary = os.environ.get("MSTREAMD", "")
        if not self.binary:
            skip("MSTREAMD does not name an mstreamd")
        if not os.path.isdir("/dev/shm"):
            skip("there is no /dev/shm")
        directory = tempfile.TemporaryDirectory(prefix="mstream-python-", dir="/dev/shm")
        self.addCleanup(directory.cleanup)
        self.directory = directory.name
        self.address = ("127.0.0.1", free_udp_port())
        self.config = os.path.join(self.directory, "mstreamd.toml")
        core = min(os.sched_getaffinity(0))
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(directory=self.directory, port=self.address[1], core=core))
        self.process: subprocess.Popen[bytes] | None = None
        self.addCleanup(self.kill)
        self.start()

    def start(self) -> None:
        path = os.path.join(self.directory, "log")
        with open(path, "wb") as log:
            self.process = subprocess.Popen([self.binary, "--config", self.config], stdout=log, stderr=log)
        end = time.monotonic() + 30
        while True:
            with open(path, encoding="utf-8", errors="replace") as log_so_far:
                text = log_so_far.read()
            if "mstreamd: ready" in text:
                return
            if self.process.poll() is not None or time.monotonic() > end:
                self.fail(f"mstreamd does not start:\n{text}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Ends mstreamd as kill -9 does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        # The signal is only on its way: a thread that runs on another core goes on until it gets there.
        tasks = f"/proc/{self.process.pid}/task"
        while not all(self.is_stopped(f"{tasks}/{task}/stat") for task in os.listdir(tasks)):
            time.sleep(0.001)

    @staticmethod
    def is_stopped(stat: str) -> bool:
        with open(stat, encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"

    def go_on(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def read(self, count: int, **options) -> list[mstream.Message]:
        """The first `count` messages, and the proof that no other follows."""
        with mstream.Subscriber(self.address, STREAM, **options) as subscriber:
            messages: list[mstream.Message] = []
            end = time.monotonic() + 30
            while len(messages) < count and time.monotonic() < end:
                messages += subscriber.receive(wait=0.5)
            messages += subscriber.receive(wait=0.1)
        self.assertEqual(len(messages), count)
        return messages


def payload(number: int) -> bytes:
    return b"%d:" % number + random.Random(number).randbytes(number % 90)


class RoundTrip(Server):
    def test_messages_come_back_byte_for_byte(self) -> None:
        sent = [mstream.Message(payload(n), b"k%d" % n if n % 3 else b"", b"h" * (n % 5)) for n in range(3000)]
        with mstream.Publisher(self.address, STREAM, publisher=PUBLISHER) as publisher:
            at = 0
            while at < len(sent):
                size = 1 + at % 8
                publisher.publish(sent[at : at + size])
                at += size
            publisher.flush()
            self.assertEqual((publisher.acknowledged, publisher.offset), (3000, 3000))
        received = self.read(3000, window=100)
        self.assertEqual([m.offset for m in received], list(range(3000)))
        for got, wanted in zip(received, sent, strict=True):
            self.assertEqual((got.payload, got.key, got.headers), (wanted.payload, wanted.key, wanted.headers))
        self.assertEqual({m.publisher for m in received}, {PUBLISHER})

    def test_both_families_reach_the_same_stream(self) -> None:
        v6 = ("::1", self.address[1])
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
                probe.bind(("::1", 0))
        except OSError as error:
            skip(f"no IPv6 on this host: {error}")
        for address in (self.address, v6):
            with mstream.Publisher(address, STREAM) as publisher:
                publisher.publish([payload(n) for n in range(10)])
                publisher.flush()
        self.assertEqual([m.payload for m in self.read(20)], [payload(n % 10) for n in range(20)])
        self.address = v6
        self.assertEqual([m.payload for m in self.read(20)], [payload(n % 10) for n in range(20)])

    def test_reading_may_start_inside_a_batch_and_at_the_end(self) -> None:
        with mstream.Publisher(self.address, STREAM) as publisher:
            for first in range(0, 100, 10):
                publisher.publish([payload(n) for n in range(first, first + 10)])
            publisher.flush()
            for start in (0, 1, 37, 99, 100):
                received = [(m.offset, m.payload) for m in self.read(100 - start, start=start)]
                self.assertEqual(received, [(n, payload(n)) for n in range(start, 100)])
            with mstream.Subscriber(self.address, STREAM, start="latest") as subscriber:
                publisher.publish([b"news"])
                self.assertEqual([(m.offset, m.payload) for m in subscriber.receive(wait=10)], [(100, b"news")])

    def test_losses_are_mended(self) -> None:
        with (
            mstream.Publisher(self.address, STREAM, publisher=PUBLISHER) as publisher,
            mstream.Subscriber(self.address, STREAM, window=64) as subscriber,
        ):
            sockets = [Lossy(publisher._socket, 1), Lossy(subscriber._socket, 2)]
            publisher._socket, subscriber._socket = sockets  # type: ignore[assignment]
            received: list[mstream.Message] = []
            for first in range(0, 2000, 5):
                publisher.publish([payload(n) for n in range(first, first + 5)])
                received += subscriber.receive()
            publisher.flush()
            end = time.monotonic() + 60
            while len(received) < 2000 and time.monotonic() < end:
                received += subscriber.receive(wait=0.1)
        self.assertEqual([(m.offset, m.payload) for m in received], [(n, payload(n)) for n in range(2000)])
        self.assertTrue(all(lossy.lost > 20 for lossy in sockets))


class Program(Server):
    def run_program(self, *arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        program = [sys.executable, mstream.__file__, arguments[0], "{}:{}".format(*self.address), STREAM, *arguments[1:]]
        return subprocess.run(program, input=data, capture_output=True, timeout=60, check=False)

    def test_framed_messages_come_back_as_they_were_and_a_cut_one_is_told(self) -> None:
        framed = b"\0\x04a\nb\0" + b"\0\0" + b"\0\x01c"
        self.assertEqual(self.run_program("pub", "--framing", "u16be", data=framed).returncode, 0)
        read = self.run_program("sub", "--framing", "u16be", "--count", "3")
        self.assertEqual((read.returncode, read.stdout), (0, framed))
        for cut in (b"\0", b"\0\x02x"):
            said = self.run_program("pub", "--framing", "u16be", data=cut)
            self.assertEqual((said.returncode, said.stderr), (1, b"mstream.py: the input ends inside a message\n"))


class Restart(Server):
    def test_nothing_is_lost_or_repeated_over_kill_9(self) -> None:
        with (
            mstream.Publisher(self.address, STREAM, publisher=PUBLISHER) as publisher,
            mstream.Subscriber(self.address, STREAM) as subscriber,
        ):
            life = publisher.incarnation
            received: list[mstream.Message] = []
            for first in range(0, 4000, 10):
                publisher.publish([payload(n) for n in range(first, first + 10)])
                received += subscriber.receive()
                if first in (1000, 2500):
                    # Batches that the shard did not answer yet, some of which it may never have seen.
                    self.pause()
                    for more in range(20):
                        publisher.publish([b"unanswered %d" % more])
                    self.assertGreater(len(publisher._batches), 0)
                    self.kill()
                    self.start()
            publisher.flush()
            self.assertEqual((publisher.acknowledged, publisher.incarnation), (4040, life))
            end = time.monotonic() + 30
            while len(received) < 4040 and time.monotonic() < end:
                received += subscriber.receive(wait=0.5)
        self.assertEqual([m.offset for m in received], list(range(4040)))
        unanswered = [b"unanswered %d" % more for more in range(20)]
        numbers = [payload(n) for n in range(4000)]
        expected = numbers[:1010] + unanswered + numbers[1010:2510] + unanswered + numbers[2510:]
        self.assertEqual([m.payload for m in received], expected)
        self.assertEqual([m.payload for m in self.read(4040)], expected)

        # Another process that was told the incarnation goes on in the same life.
        with mstream.Publisher(self.address, STREAM, publisher=PUBLISHER, incarnation=life) as publisher:
            self.assertEqual((publisher.acknowledged, publisher.incarnation), (4040, life))
            self.assertEqual(publisher.publish([b"resumed"]).sequence, 4041)
            publisher.flush()

    def test_an_anonymous_publisher_is_told_that_the_outcome_is_unknown(self) -> None:
        with mstream.Publisher(self.address, STREAM) as publisher:
            publisher.publish([b"known"])
            publisher.flush()
            self.pause()
            batch = publisher.publish([b"unknown"])
            self.kill()
            self.start()
            with self.assertRaises(mstream.OutcomeUnknown) as caught:
                publisher.flush()
            self.assertEqual(caught.exception.batches, [batch])
            publisher.publish([b"again"])
            publisher.flush()
            self.assertEqual(publisher.acknowledged, 1)
        with mstream.Subscriber(self.address, STREAM) as subscriber:
            seen = [m.payload for m in subscriber.receive(wait=10)]
        self.assertEqual((seen[0], seen[-1]), (b"known", b"again"))

    def test_a_log_that_was_lost_is_told(self) -> None:
        with (
            mstream.Publisher(self.address, STREAM, publisher=PUBLISHER) as publisher,
            mstream.Subscriber(self.address, STREAM) as subscriber,
        ):
            publisher.publish([b"to be lost"])
            publisher.flush()
            self.assertEqual(len(subscriber.receive(wait=10)), 1)
            self.kill()
            os.rename(os.path.join(self.directory, "wal"), os.path.join(self.directory, "old"))
            self.start()
            with self.assertRaises(mstream.Diverged) as caught:
                publisher.publish([b"into another log"])
                publisher.flush()
            self.assertEqual(caught.exception.common, 0)
            with self.assertRaises(mstream.Diverged):
                end = time.monotonic() + 30
                while time.monotonic() < end:
                    subscriber.receive(wait=0.5)


class Refusals(Server):
    def test_a_second_claim_fences_the_first(self) -> None:
        with mstream.Publisher(self.address, STREAM, publisher=PUBLISHER) as first:
            first.publish([b"first life"])
            first.flush()
            with mstream.Publisher(self.address, STREAM, publisher=PUBLISHER) as second:
                self.assertGreater(second.incarnation, first.incarnation)
                self.assertEqual(second.acknowledged, 1)
                with self.assertRaises(mstream.Fenced):
                    first.publish([b"too late"])
                    first.flush()
                with self.assertRaises(mstream.Fenced):
                    mstream.Publisher(self.address, STREAM, publisher=PUBLISHER, incarnation=first.incarnation)
                second.publish([b"second life"])
                second.flush()
        self.assertEqual([m.payload for m in self.read(2)], [b"first life", b"second life"])

    def test_refused_batches_are_taken_out_and_what_follows_moves_up(self) -> None:
        with mstream.Publisher(self.address, STREAM, publisher=PUBLISHER) as publisher:
            with self.assertRaisesRegex(mstream.MstreamError, "too large"):
                publisher.publish([bytes(publisher.max_block)])
            # All of them are on their way before the shard answers the first.
            self.pause()
            good, block = [], encode_block([b"x"])[0]
            for n in range(6):
                good.append(publisher.publish([b"good %d" % n, b"and more"]))
                if n == 1:
                    large = publisher.publish_block(*encode_block([bytes(publisher.max_block)]))
                if n == 3:
                    malformed = publisher.publish_block(block, 2)
                    aborted = publisher.publish_block(block[:4] + b"\x07" + block[5:], 1)
            self.go_on()
            with self.assertRaises(mstream.Refused) as caught:
                publisher.flush()
            self.assertEqual(caught.exception.batches, [large, malformed, aborted])
            self.assertEqual([large.code, malformed.code, aborted.code], [9, 10, 11])
            self.assertEqual([batch.sequence for batch in good], [1, 3, 5, 7, 9, 11])
            self.assertTrue(all(batch.acknowledged for batch in good))
            self.assertEqual((publisher.acknowledged, publisher.round), (12, 4))
        expected = [text for n in range(6) for text in (b"good %d" % n, b"and more")]
        self.assertEqual([m.payload for m in self.read(12)], expected)

    def test_what_does_not_exist_is_refused(self) -> None:
        with self.assertRaisesRegex(mstream.MstreamError, "unknown stream"):
            mstream.Publisher(self.address, "no such stream")
        with self.assertRaisesRegex(mstream.MstreamError, "unknown stream"):
            mstream.Subscriber(self.address, "no such stream")
        with self.assertRaisesRegex(mstream.MstreamError, "unknown publisher"):
            mstream.Publisher(self.address, STREAM, publisher=77)
        with self.assertRaisesRegex(mstream.MstreamError, "unknown incarnation"):
            mstream.Publisher(self.address, STREAM, publisher=PUBLISHER, incarnation=1 << 40)

    def test_positions_that_the_log_does_not_hold_are_told(self) -> None:
        with mstream.Publisher(self.address, STREAM) as publisher:
            for n in range(10):
                publisher.publish([b"%d" % n])
            publisher.flush()
            with self.assertRaises(mstream.Diverged) as beyond:
                mstream.Subscriber(self.address, STREAM, start=11)
            self.assertEqual(beyond.exception.common, 10)
            with self.assertRaises(mstream.Diverged) as other:
                mstream.Subscriber(self.address, STREAM, start=5, position=(b"another log's id", 1))
            self.assertEqual(other.exception.common, 0)
            # More than the log may hold: its oldest segments are used again.
            large = bytes(publisher.max_block - 8)
            for _ in range(8 * (1 << 20) // len(large)):
                publisher.publish([large])
            publisher.flush()
            with self.assertRaises(mstream.OffsetGone) as gone:
                mstream.Subscriber(self.address, STREAM, start=0)
            with mstream.Subscriber(self.address, STREAM) as subscriber:
                first = subscriber.receive(wait=10)[0]
            self.assertEqual(first.offset, gone.exception.earliest)
            self.assertEqual(first.payload, large)


class Checksum(unittest.TestCase):
    def test_crc32c_of_the_protocol_page(self) -> None:
        self.assertEqual(mstream.crc32c(b"123456789"), 0xE3069283)
        self.assertEqual(mstream.crc32c(b"6789", mstream.crc32c(b"12345")), 0xE3069283)


if __name__ == "__main__":
    unittest.main()
