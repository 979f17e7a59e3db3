"""Recorded arrivals: files with a request in each row, as of the Azure LLM inference traces."""

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path


def read(path: Path) -> Iterator[tuple[float, int]]:
    """Seconds since the first request, and generated tokens, row by row.

    The columns are ``TIMESTAMP`` (local time, up to seven digits behind the second) and
    ``GeneratedTokens``. Raises OSError, or ValueError for a file of another form.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"TIMESTAMP", "GeneratedTokens"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{path.name} is no trace of requests")
        first = None
        for row in rows:
            moment = datetime.fromisoformat(row["TIMESTAMP"][:26] + "+00:00").timestamp()
            first = moment if first is None else first
            yield moment - first, int(row["GeneratedTokens"])
