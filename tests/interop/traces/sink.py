#!/usr/bin/env python3
"""sink.py FOLDER: takes what a node tells of its calls. Spans come to http://127.0.0.1:4318 and go to FOLDER/spans, a body a line;
the first is refused with 503, so that it has to be sent again. HEP comes to udp:127.0.0.1:9062 and goes to FOLDER/hep, a packet
a line as JSON, and on to Kamailio at 9063 as it came."""

import http.server
import json
import socket
import struct
import sys
import threading

# As HEP's draft has them.
CHUNKS = {
    1: "family", 2: "protocol", 3: "source", 4: "target", 5: "source", 6: "target", 7: "source_port", 8: "target_port",
    9: "seconds", 10: "micros", 11: "type", 12: "id", 14: "password", 15: "payload", 17: "correlation",
}


def decode(packet):
    """The chunks of a HEPv3 packet by name; a fault of the packet ends the program."""
    magic, length = struct.unpack_from(">4sH", packet)
    assert magic == b"HEP3" and length == len(packet), packet
    found, at = {}, 6
    while at < length:
        vendor, kind, size = struct.unpack_from(">HHH", packet, at)
        value = packet[at + 6 : at + size]
        assert vendor == 0 and size >= 6 and len(value) == size - 6 and CHUNKS[kind] not in found, packet
        name = CHUNKS[kind]
        if name in ("source", "target"):
            found[name] = socket.inet_ntop(socket.AF_INET if len(value) == 4 else socket.AF_INET6, value)
        elif name in ("password", "payload", "correlation"):
            found[name] = value.decode()
        else:
            found[name] = int.from_bytes(value, "big")
        at += size
    assert at == length, packet
    return found


def capture(folder):
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("127.0.0.1", 9062))
    with open(f"{folder}/hep", "a", buffering=1) as file:
        while True:
            packet = taken.recv(65536)
            print(json.dumps(decode(packet)), file=file)
            taken.sendto(packet, ("127.0.0.1", 9063))


class Collector(http.server.BaseHTTPRequestHandler):
    refused = False

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 200 if Collector.refused else 503
        if self.path != "/v1/traces" or self.headers["Content-Type"] != "application/json":
            status = 400
        Collector.refused = True
        if status == 200:
            with open(f"{sys.argv[1]}/spans", "a") as file:
                print(json.dumps(json.loads(body)), file=file)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def main():
    threading.Thread(target=capture, args=sys.argv[1:], daemon=True).start()
    http.server.HTTPServer(("127.0.0.1", 4318), Collector).serve_forever()


if __name__ == "__main__":
    main()
