"""Metrics over HTTP for the daemons that have no HTTP server of their own."""

from prometheus_client import CollectorRegistry, start_http_server

from headrace.runtime.lifecycle import FatalError


def serve(registry: CollectorRegistry, port: int, address: str = "127.0.0.1") -> None:
    """Serve `registry` on `address`:`port` from a daemon thread; port 0 turns it off."""
    if port == 0:
        return
    try:
        start_http_server(port, addr=address, registry=registry)
    except OSError as error:
        raise FatalError(f"metrics cannot listen on {address}:{port}: {error.strerror}") from error
