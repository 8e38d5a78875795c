"""Single questions, to see that a server answers as it must before it is measured."""

import http.client
import socket
import subprocess

from .processes import Trouble


class _Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(target, path, token=None):
    """Status and body. A target is a port of this machine, or the path of a unix socket."""
    if isinstance(target, int):
        connection = http.client.HTTPConnection("127.0.0.1", target, timeout=10)
    else:
        connection = _Unix(target)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def status(target, path, token):
    try:
        return get(target, path, token)[0]
    except (OSError, http.client.HTTPException):
        return 0


def forged(token):
    """Another signature: one sign in its middle is changed. Of an opaque token: one that nobody has given."""
    if "." not in token:
        return "evil" + token[4:]
    middle = token.rindex(".") + 40
    return token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]


def grpc_status(target, message):
    """What ext_authz by gRPC decides about a framed question: 200, or the status of the denial."""
    where = ["--unix-socket", str(target)] if not isinstance(target, int) else []
    port = target if isinstance(target, int) else 80
    done = subprocess.run(
        ["curl", "--silent", "--max-time", "10", "--http2-prior-knowledge", *where, "--data-binary", f"@{message}"]
        + ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        + [f"http://127.0.0.1:{port}/envoy.service.auth.v3.Authorization/Check"],
        capture_output=True, check=False,
    )
    if len(done.stdout) < 5:
        return 0
    fields = dict(_fields(done.stdout[5:]))
    if 2 in fields:  # DeniedHttpResponse, whose first field is HttpStatus, whose first is the code
        return dict(_fields(dict(_fields(fields[2])).get(1, b""))).get(1, 403)
    return 200 if not dict(_fields(fields.get(1, b""))).get(1) else 0


def _fields(data):
    place = 0

    def number():
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(data):
        tag = number()
        if tag & 7 == 0:
            yield tag >> 3, number()
        elif tag & 7 == 2:
            length = number()
            yield tag >> 3, data[place : place + length]
            place += length
        else:
            raise Trouble("an answer by gRPC that cannot be read")


def metrics(admin):
    """Every series of Vidimus, labels and all."""
    series = {}
    for line in get(admin, "/metrics")[1].splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            series[name] = float(value)
    return series
