"""What the demo shows: lines with the time since its start, and a table of what runs where."""

import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.cli.demo.supervisor import Supervisor

FILE_WIDTH: Final = 150


class Screen:
    """Writes to the terminal, or plain lines where there is none."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, width=_width())
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """A progress line."""
        line = Text(f"[{time.monotonic() - self._began:5.1f} s] ", style="dim")
        line.append(text, style="not dim")
        self._print(line)

    def plain(self, text: str = "", style: str = "") -> None:
        """A line as it is."""
        self._print(Text(text, style=style))

    def stream(self, text: str, style: str = "") -> None:
        """A piece of a line, at once."""
        self._print(Text(text, style=style), end="")

    def table(self, keepers: Iterable[Supervisor], engines: Mapping[str, str]) -> None:
        """What runs where; a worker is where its engine is."""
        table = Table(title="What runs where", title_justify="left", header_style="bold")
        table.add_column("name", style="bold cyan", no_wrap=True)
        table.add_column("pid", style="magenta", justify="right", no_wrap=True)
        table.add_column("address", style="green", overflow="fold")
        table.add_column("what")
        table.add_column("log", style="dim", overflow="fold")
        for keeper in keepers:
            part = keeper.part
            engine = engines.get(part.name, "").removeprefix("unix:")
            address = f"unix:{nearest(Path(engine))}" if engine else part.address
            table.add_row(part.name, str(keeper.pid), address, part.what, nearest(keeper.log))
        # Only a table is fitted into the width; a line stays a line, so that it can be copied.
        self._print(table, soft_wrap=False)

    def _print(self, what: Text | Table, *, end: str = "\n", soft_wrap: bool = True) -> None:
        # A terminal that is gone must not keep the demo from ending its processes.
        with suppress(OSError):
            self.console.print(what, end=end, soft_wrap=soft_wrap)


def _width() -> int | None:
    """The terminal's own width; where there is none, enough for the table's addresses."""
    return None if sys.stdout.isatty() else FILE_WIDTH


def nearest(path: Path) -> str:
    """`path` as seen from here, if that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
