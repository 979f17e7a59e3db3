"""A client's session with an engine, simulated or real, on a Unix socket."""

import aiohttp


def session(address: str) -> aiohttp.ClientSession:
    """A session with what listens on ``unix:PATH``."""
    # llama.cpp hangs up after some answers without saying so: no connection is used twice.
    connector = aiohttp.UnixConnector(address.removeprefix("unix:"), force_close=True)
    return aiohttp.ClientSession("http://engine", connector=connector)
