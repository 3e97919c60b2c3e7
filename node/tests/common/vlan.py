"""An interface in a VLAN for kernels that have none: a tap, and a packet socket that tags and untags.

    vlan.py LOWER VLAN NAME

What leaves by NAME goes out of LOWER with the tag of VLAN, and what arrives there with that tag comes in by NAME.
Says "ready" when NAME is there, which it is until standard input is closed.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import sys

# What the kernel's headers call these, and Python does not.
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x2, 0x1000
SOL_PACKET, PACKET_AUXDATA, TP_STATUS_VLAN_VALID = 263, 8, 1 << 4
ETH_P_ALL, PACKET_OUTGOING = 3, 4
TAG = b"\x81\x00"
# struct tpacket_auxdata: status, length, captured length, offsets of the headers, tag, its protocol
AUXDATA = struct.Struct("=IIIHHHH")


def untagged(frame: bytes, ancillary: list[tuple[int, int, bytes]]) -> tuple[int | None, bytes]:
    """The VLAN of a received frame, and the frame without its tag: the kernel takes tags out of most frames."""
    for level, kind, data in ancillary:
        if level == SOL_PACKET and kind == PACKET_AUXDATA:
            status, _, _, _, _, tag, _ = AUXDATA.unpack_from(data)
            if status & TP_STATUS_VLAN_VALID:
                return tag & 0xFFF, frame
    if frame[12:14] == TAG:
        return int.from_bytes(frame[14:16], "big") & 0xFFF, frame[:12] + frame[16:]
    return None, frame


def main() -> None:
    lower, vlan, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    wire.bind((lower, ETH_P_ALL))
    wire.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([wire, tap, sys.stdin], [], [])
        if sys.stdin in readable:
            return
        if tap in readable:
            frame = os.read(tap, 65536)
            try:
                wire.send(frame[:12] + TAG + vlan.to_bytes(2, "big") + frame[12:])
            except OSError:
                pass  # a full or absent interface loses frames, as any does
        if wire in readable:
            frame, ancillary, _, source = wire.recvmsg(65536, socket.CMSG_SPACE(AUXDATA.size))
            if source[2] == PACKET_OUTGOING:
                continue
            of, frame = untagged(frame, ancillary)
            if of == vlan:
                try:
                    os.write(tap, frame)
                except OSError:
                    pass  # it is not up yet


if __name__ == "__main__":
    main()
