"""Whether the process of a container is well: `python -m deploy.healthcheck server`, `worker` or `structures`; exit code 0 means yes.

A server is asked over gRPC. A worker cannot be asked; it is well while it holds a connection to its broker, which it opens when it is
warm and without which it gets no work. The structure keeper is well while it speaks gRPC.
"""

import argparse
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.settings import Settings

SECONDS = 3.0
_PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}
_ESTABLISHED = "01"


def server_complaint(listen: str) -> str:
    """Why the server at that address is not well; empty when it serves."""
    address = _reachable(listen)
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        except grpc.RpcError as error:
            said = error.details() if isinstance(error, grpc.Call) else error
            return f"The server at {address} does not answer: {said}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return f"The server at {address} says {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}."


def structures_complaint(listen: str) -> str:
    """Why the structure keeper at that address is not well; empty when it takes connections."""
    address = _reachable(listen)
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(SECONDS)
        except grpc.FutureTimeoutError:
            return f"The structure keeper at {address} does not answer."
    return ""


def worker_complaint(broker_url: str, tables: tuple[Path, ...] = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))) -> str:
    """Why no worker of this container (network namespace) is at work; empty when one is connected to the broker."""
    parts = urlsplit(broker_url)
    port = parts.port or _PORTS.get(parts.scheme, 0)
    try:
        known = {info[4][0] for info in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        return f"The broker {parts.hostname} has no address: {error}"
    for table in tables:
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, _, remote, state = line.split()[:4]
            host, _, hexadecimal_port = remote.partition(":")
            if state == _ESTABLISHED and int(hexadecimal_port, 16) == port and _address(host) in known:
                return ""
    return f"No process here is connected to the broker at {parts.hostname}:{port}."


def _reachable(listen: str) -> str:
    """An address that stands for all interfaces is reached through loopback."""
    host, _, port = listen.rpartition(":")
    return f"{'127.0.0.1' if host in ('', '0.0.0.0', '[::]') else host}:{port}"


def _address(hexadecimal: str) -> str:
    """The kernel writes addresses as 32-bit words in the machine's byte order."""
    words = [int(hexadecimal[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(hexadecimal), 8)]
    raw = b"".join(words)
    if len(raw) == 16 and raw[:12] == bytes(10) + b"\xff\xff":
        raw = raw[12:]
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def main() -> int:
    """Returns 0 when the process is well, 1 with a sentence on stderr when not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["server", "worker", "structures"])
    kind = parser.parse_args().kind
    settings = Settings()
    match kind:
        case "server":
            complaint = server_complaint(settings.listen)
        case "worker":
            complaint = worker_complaint(settings.broker_url)
        case _:
            complaint = structures_complaint(settings.structures_listen)
    if complaint:
        print(complaint, file=sys.stderr)
    return 1 if complaint else 0


if __name__ == "__main__":
    sys.exit(main())
