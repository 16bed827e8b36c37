"""Run a command in a terminal of its own and save what it showed as an SVG picture.

pytest's lines about the machine are left out. Variables may stand before the command. The two
pictures of the readme, the second one from a copy of examples/see-it-fail with its baseline stored:

python tools/terminal_picture.py docs/terminal.svg -- pytest benchmarks/
python TOOLS/terminal_picture.py DOCS/regression.svg -- NOISE=0.1 pytest --tb=short
"""

from __future__ import annotations

import os
import pty
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 96


def record(command: list[str]) -> str:
    """Everything the command wrote to its terminal, colours included."""
    os.environ.update(COLUMNS=str(COLUMNS), TERM="xterm-256color")
    shown: list[bytes] = []

    def read(fd: int) -> bytes:
        data = os.read(fd, 65536)
        shown.append(data)
        return data

    pty.spawn(command, read)
    return b"".join(shown).decode(errors="replace")


def settle(text: str) -> str:
    """What stays on the screen: no progress, and a carriage return starts its line anew."""
    text = re.sub(r"\r?\n\r[^\n]*?\x1b\[K\x1b\[A\r(\x1b\[\d+C)?", "", text)
    lines = [line.rstrip("\r").split("\r")[-1] for line in text.split("\n")]
    machine = re.compile("(platform|benchmark:|rootdir:|configfile:|plugins:) ")
    return "\n".join(line for line in lines if not machine.match(line)).strip("\n")


def main() -> None:
    target, _, *command = sys.argv[1:]
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(Text(f"$ {' '.join(command)}", style="bold"))
    while variable := re.fullmatch(r"([A-Z]+)=(.*)", command[0]):
        os.environ[variable[1]] = variable[2]
        command.pop(0)
    console.print(Text.from_ansi(settle(record(command))))
    Path(target).write_text(console.export_svg(title="pytest"))


if __name__ == "__main__":
    main()
