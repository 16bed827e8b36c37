"""What all nouns share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Self

Json = Any  # what json.loads gives back


class Record:
    """JSON in and out for a frozen dataclass whose nested records name their own types."""

    def to_json(self) -> dict[str, Json]:
        assert is_dataclass(self)
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Self:
        """Build the record from ``to_json``'s form; keys of a newer writer are ignored."""
        assert is_dataclass(cls)
        return cls(**{f.name: data[f.name] for f in fields(cls) if f.name in data})
