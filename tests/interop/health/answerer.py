#!/usr/bin/env python3
"""answerer.py FIRST COUNT DYING: a socket for each of so many ports of 127.0.0.1, from FIRST on, which answers every request
200. "listening" is printed once all do. SIGUSR1 closes the last DYING of them, and prints "closed" and when."""

import resource
import select
import signal
import socket
import sys
import time

KEPT = (b"via:", b"from:", b"to:", b"call-id:", b"cseq:")


def answer(request):
    lines = [b"SIP/2.0 200 OK"]
    for line in request.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]:
        name = line.lower()
        if name.startswith(KEPT):
            lines.append(line + (b";tag=there" if name.startswith(b"to:") else b""))
    return b"\r\n".join(lines + [b"Content-Length: 0", b"", b""])


def main():
    first, count, dying = map(int, sys.argv[1:])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    epoll = select.epoll()
    sockets = {}
    for port in range(first, first + count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", port))
        sock.setblocking(False)
        sockets[sock.fileno()] = sock
        epoll.register(sock, select.EPOLLIN)
    ordered = []
    signal.signal(signal.SIGUSR1, lambda *_: ordered.append(True))
    # A signal that comes before the wait ends it too.
    wake, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    epoll.register(wake, select.EPOLLIN)
    print("listening", flush=True)
    while True:
        for number, _ in epoll.poll():
            if number == wake.fileno():
                wake.recv(100)
            elif number in sockets:
                try:
                    request, peer = sockets[number].recvfrom(65535)
                    sockets[number].sendto(answer(request), peer)
                except (BlockingIOError, ConnectionRefusedError):
                    pass
        if ordered:
            ordered.clear()
            for number in list(sockets)[-dying:]:
                sockets.pop(number).close()
            print(f"closed {time.time():.3f}", flush=True)


main()
