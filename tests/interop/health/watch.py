#!/usr/bin/env python3
"""watch.py FILE: what passes the loopback of this network namespace, UDP over IPv4, until SIGTERM; then FILE has a line for
each INVITE and OPTIONS, each response to one and each ICMP error that quotes one: when it came (seconds, by the kernel's
clock), source port, destination port, method or status and method (200/INVITE; the ICMP error: icmp/INVITE, and the ports
are those that it quotes), Call-ID. Each datagram stands there once; one that was sent again comes again.
The last line tells how many the kernel had no room for. "watching" is printed once it does. Needs root."""

import select
import signal
import socket
import struct
import sys

ETH_P_IP = 0x0800            # Of what comes alone: a socket for all protocols would see each one leave too.
UNREACHABLE = 3              # An ICMP type.
SOL_PACKET = 263
PACKET_STATISTICS = 6
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
ROOM = 64 << 20
SNAP = 1500                  # No header that is read stands behind it.
METHODS = (b"INVITE", b"OPTIONS")


def header(text, name):
    """The value of a header that our own tools write in full."""
    at = text.find(b"\n" + name + b":")
    if at < 0:
        return b"-"
    end = text.find(b"\r", at)
    return text[at + len(name) + 2:end].strip()


def look(frame):
    """What a line says of the frame, but for the time."""
    ip, before = frame[14:], ""
    body = ip[(ip[0] & 15) * 4:]
    if ip[9] == socket.IPPROTO_ICMP and body[0] == UNREACHABLE:
        ip, before = body[8:], "icmp/"
        body = ip[(ip[0] & 15) * 4:]
    if ip[9] != socket.IPPROTO_UDP:
        return None
    source, destination = struct.unpack("!HH", body[:4])
    text = body[8:]
    if text.startswith(b"SIP/2.0 "):
        method = header(text, b"CSeq").split(b" ")[-1]
        what = text[8:11] + b"/" + method
    else:
        what = method = text.split(b" ", 1)[0]
    if method not in METHODS:
        return None
    return f"{source} {destination} {before}{what.decode()} {header(text, b'Call-ID').decode()}"


def main():
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.bind(("lo", 0))
    sock.setblocking(False)
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    # A signal that comes before the wait ends it too.
    wake, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    print("watching", flush=True)
    with open(sys.argv[1], "w") as log:
        while True:
            try:
                frame, ancillary, _, _ = sock.recvmsg(SNAP, 64)
            except BlockingIOError:
                if ended:
                    break
                select.select([sock, wake], [], [])
                continue
            line = look(frame)
            if line:
                seconds, nanoseconds = struct.unpack("ll", ancillary[0][2][:16])
                log.write(f"{seconds}.{nanoseconds // 1000:06} {line}\n")
        _, lost = struct.unpack("II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        log.write(f"lost {lost}\n")


main()
