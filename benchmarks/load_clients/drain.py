"""Reads streams and does nothing with them, to find what the server can send: ``drain.py URL STREAMS``."""

from __future__ import annotations

import json
import select
import socket
import sys
from urllib.parse import urlsplit

URL, STREAMS = urlsplit(sys.argv[1]), int(sys.argv[2])
BODY = json.dumps({"stream": True, "max_tokens": 10**9, "messages": [{"role": "user", "content": "go"}]}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: mock\r\nContent-Length: %d\r\n\r\n" % len(BODY)

poll = select.epoll()
sockets = {}
for _ in range(STREAMS):
    connection = socket.create_connection((str(URL.hostname), int(URL.port or 80)))
    connection.sendall(HEAD + BODY)
    sockets[connection.fileno()] = connection
    poll.register(connection, select.EPOLLIN)
into = bytearray(1 << 16)
while True:  # until killed
    for number, _ in poll.poll():
        sockets[number].recv_into(into)
