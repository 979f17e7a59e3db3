"""The few HTTP calls that the command line makes, with Python's own client."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit


class HttpError(Exception):
    """No useful answer; the text says what came instead."""


def connect(url: str, timeout: float) -> tuple[http.client.HTTPConnection, str]:
    """A connection for `url`, and the path to ask for. Raises HttpError for a bad URL."""
    parts = urlsplit(url)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        raise HttpError(f"not an http or https URL: {url}")
    try:
        connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=timeout)
    except ValueError as error:
        raise HttpError(f"not an http or https URL: {url}") from error
    return connection, parts.path + (f"?{parts.query}" if parts.query else "")


def headers(key: str) -> dict[str, str]:
    """The headers that show the key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def get(url: str, key: str = "", timeout: float = 2.0) -> tuple[int, bytes]:
    """Status and body. Raises HttpError where there is none."""
    connection, path = connect(url, timeout)
    with closing(connection):
        try:
            connection.request("GET", path, headers=headers(key))
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise HttpError(f"{url}: {str(error) or type(error).__name__}") from error


def get_json(url: str, key: str = "", timeout: float = 2.0) -> Any:
    """The decoded body of a 200. Raises HttpError for anything else."""
    status, body = get(url, key, timeout)
    if status != 200:
        raise HttpError(f"{url}: status {status}")
    try:
        return json.loads(body)
    except ValueError as error:
        raise HttpError(f"{url}: not JSON") from error


def post_stream(url: str, key: str, body: object, timeout: float) -> Iterator[str]:
    """The lines of a streamed answer as they come. Raises HttpError."""
    connection, path = connect(url, timeout)
    with closing(connection):
        try:
            connection.request(
                "POST",
                path,
                json.dumps(body),
                {**headers(key), "Content-Type": "application/json"},
            )
            response = connection.getresponse()
            if response.status != 200:
                raise HttpError(f"{url}: status {response.status}")
            while line := response.readline():
                yield line.decode(errors="replace").rstrip("\r\n")
        except (OSError, http.client.HTTPException) as error:
            raise HttpError(f"{url}: {str(error) or type(error).__name__}") from error
