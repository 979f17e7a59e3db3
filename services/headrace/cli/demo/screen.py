"""What the demo shows: lines with the time since its start, and a table of what runs where."""

import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.cli.demo.keeper import Keeper


class Screen:
    """Writes to the terminal, or plain lines where there is none."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """A progress line."""
        line = Text(f"[{time.monotonic() - self._began:5.1f} s] ", style="dim")
        line.append(Text(text, style="default not dim"))
        self.console.print(line)

    def plain(self, text: str = "", style: str = "") -> None:
        """A line as it is."""
        self.console.print(Text(text, style=style))

    def stream(self, text: str, style: str = "") -> None:
        """A piece of a line, at once."""
        self.console.print(Text(text, style=style), end="")
        self.console.file.flush()

    def table(self, keepers: Iterable[Keeper]) -> None:
        """What runs where."""
        table = Table(title="What runs where", title_justify="left", header_style="bold")
        table.add_column("name", style="bold cyan", no_wrap=True)
        table.add_column("pid", style="magenta", justify="right")
        table.add_column("address", style="green", overflow="fold")
        table.add_column("what")
        table.add_column("log", style="dim", overflow="fold")
        for keeper in keepers:
            part = keeper.part
            table.add_row(part.name, str(keeper.pid), part.address, part.what, nearest(keeper.log))
        # The table needs a width to wrap in; lines of text must not be wrapped.
        self.console.print(table, soft_wrap=False)


def nearest(path: Path) -> str:
    """`path` as seen from here, if that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
