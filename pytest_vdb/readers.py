"""How one value of a flag, an ini option, a marker or a command's argument is read.

Each reader raises BadSetting with what to write instead. Nothing heavy is imported.
"""

from __future__ import annotations

import math
import re
from typing import Any

from pytest_vdb.errors import BadSetting


def choice(*allowed: str) -> Any:
    def read(text: str) -> str:
        if text not in allowed:
            raise BadSetting(f"{text!r} is not one of {', '.join(allowed)}")
        return text

    return read


def duration(text: object) -> float:
    """Seconds of ``"90"``, ``"90s"``, ``"20min"`` or ``"2h"``."""
    if isinstance(text, str):
        for unit, factor in (("min", 60), ("ms", 0.001), ("h", 3600), ("s", 1), ("", 1)):
            if text.endswith(unit):
                try:
                    seconds = float(text.removesuffix(unit)) * factor
                except ValueError:
                    continue
                if 0 < seconds < float("inf"):
                    return seconds
    elif isinstance(text, int | float) and not isinstance(text, bool) and 0 < text < float("inf"):
        return float(text)
    raise BadSetting(f"{text!r} is no duration; write e.g. 90s, 20min or 2h")


def count(text: object) -> int:
    number = str(text).strip()
    if not number.isdecimal() or not int(number):
        raise BadSetting(f"{text!r} is no positive whole number")
    return int(number)


def shard(text: str) -> tuple[int, int]:
    """(2, 4) of ``"2/4"``."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise BadSetting(f"{text!r} is no shard; write I/N, from 1/4 to 4/4")
    return int(match[1]), int(match[2])


def processes(text: object) -> int:
    """How many process pairs at most: a look is taken after 3, 4, 6 and 8; 1 and 2 are trials."""
    number = count(text)
    if number not in (1, 2, 3, 4, 6, 8):
        raise BadSetting(f"{text!r}: the gate looks after 3, 4, 6 and 8 process pairs; name one")
    return number


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise BadSetting(f"{text!r} is no share; write a number from 0 to 1, e.g. 0.9")
    return number


def size(text: str) -> int:
    """Bytes of ``"20GiB"``, ``"512MiB"`` or ``"20GB"``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(i?)B\s*", text)
    if match is None or not float(match[1]):
        raise BadSetting(f"{text!r} is no size; write e.g. 20GiB or 512MiB")
    power = "KMGT".index(match[2]) + 1
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def url(text: str) -> str:
    """An http(s) address of printable ASCII that ends no Markdown link and no HTML attribute."""
    if re.fullmatch(r"https?://[\w.~:/?#@!$&*+,;=%-]+", text, re.ASCII):
        return text
    raise BadSetting(f"{text!r} is no address of a page; write https://HOST/PATH, escaped by %")


def device(text: str, kinds: str = "auto|cpu") -> str:
    if re.fullmatch(rf"{kinds}|cuda(:\d+)?", text):
        return text
    raise BadSetting(f"{text!r} is no device; write {kinds.replace('|', ', ')}, cuda or cuda:0")


def metric_device(text: str) -> str:
    return device(text, "cluster|auto|cpu")


def cluster(text: str) -> str:
    """The address of a Ray cluster; an IPv6 host stands in brackets."""
    if re.fullmatch(r"local|auto|(ray://)?([\w.-]+|\[[\da-fA-F:]+\]):\d{1,5}", text):
        return text
    raise BadSetting(f"{text!r} is no cluster; write local, auto, ray://HOST:PORT or HOST:PORT")


def assignment(text: str) -> dict[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise BadSetting(f"{text!r} lacks a '='; write NAME=VALUE")
    return {key.strip(): value.strip()}


def tolerance(text: str) -> dict[str, str]:
    from pytest_vdb.gate.policy import Tolerance

    pair = assignment(text)
    for value in pair.values():
        Tolerance.parse(value)
    return pair


def literal(text: str) -> Any:
    """A call argument from the command line: int, float, true/false, none, else the text."""
    words: dict[str, Any] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def setting(text: str) -> dict[str, Any]:
    return {key: literal(value) for key, value in assignment(text).items()}


def sweep(text: str) -> dict[str, tuple[Any, ...]]:
    ((key, said),) = assignment(text).items()
    values = tuple(literal(value.strip()) for value in said.split(","))
    if any(value == "" for value in values):
        raise BadSetting(f"{text!r} has an empty value; write KEY=V1,V2")
    if len({*map(repr, values)}) < len(values):
        raise BadSetting(f"{text!r} names one value twice")
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise BadSetting(f"{text!r} has a value that is no finite number")
    return {key: values}
