#!/usr/bin/env python3
"""unanswered.py CAPTURE CALLER: every BYE by UDP of the host CALLER that has got no 2xx there, each with all that was said in
its call from the BYE on: when, who to whom, the first line and the branch. CAPTURE is tcpdump's, of Ethernet."""

import re
import struct
import sys
from ipaddress import ip_address

BRANCH = re.compile(rb"^(?:Via|v)\s*:.*?branch=([^;,\s]+)", re.I | re.M)
CALL_ID = re.compile(rb"^(?:Call-ID|i)\s*:\s*(\S+)", re.I | re.M)
CSEQ = re.compile(rb"^CSeq\s*:\s*\d+\s+(\S+)", re.I | re.M)


def datagrams(path):
    """Time, sender, receiver and bytes of each UDP datagram; one is seen once, since all hosts are on one bridge."""
    with open(path, "rb") as file:
        head = file.read(24)
        order = "<" if head[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
        while len(record := file.read(16)) == 16:
            seconds, fraction, length, _ = struct.unpack(order + "IIII", record)
            frame = file.read(length)
            if frame[12:14] == b"\x08\x00" and frame[23] == 17:
                udp, source, target = 14 + (frame[14] & 15) * 4, frame[26:30], frame[30:34]
            elif frame[12:14] == b"\x86\xdd" and frame[20] == 17:
                udp, source, target = 54, frame[22:38], frame[38:54]
            else:
                continue
            ports = struct.unpack(">HH", frame[udp : udp + 4])
            ends = (f"{ip_address(end)} {port}" for end, port in zip((source, target), ports))
            yield seconds + fraction / 1e6, *ends, frame[udp + 8 :]


def main(path, caller):
    calls, answered, first = {}, set(), None
    for time, source, target, data in datagrams(path):
        first = time if first is None else first
        method, call = CSEQ.search(data), CALL_ID.search(data)
        if not method or not call or method[1] != b"BYE":
            continue
        line, branch = data.split(b"\r\n", 1)[0], BRANCH.search(data)
        said = calls.setdefault(call[1], [])
        said.append((time, source, target, line, branch[1] if branch else b""))
        if line.startswith(b"SIP/2.0 2") and target.startswith(caller + " "):
            answered.add(call[1])
    for call, said in calls.items():
        if call in answered or not any(source.startswith(caller + " ") for _, source, *_ in said):
            continue
        print(call.decode(errors="replace"))
        for time, source, target, line, branch in said:
            print(f"  {time - first:8.3f} {source} > {target} {line.decode(errors='replace')[:60]} {branch.decode(errors='replace')}")


if __name__ == "__main__":
    main(*sys.argv[1:])
