"""Which known-bad versions each metric sees: the tables of docs/metrics/known-bad.md.

    python tools/metric_faults.py [--family NAME] [--metrics NAME,...] [--marks] [--print]

Every metric that can be computed here is computed of real videos, sounds, latents, sets and
routers, as they are and with each fault of `pytest_vdb.metrics.faults`. A cell is the percentage of
the cases where the metric ranks the fault below the intact one. The exit status is 1 where a metric
claims (`MetricSpec.sees`) a fault that it does not rank below on 95 % of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import pages
from known_bad import many, videos
from known_bad.page import PAGE, Family, Row, kept, table

FAMILIES: dict[str, Family] = {
    "frames": videos.FRAMES,
    "prompt": videos.PROMPT,
    "sound": videos.SOUND,
    "latent": videos.LATENT,
    "sets": many.SETS,
    "routers": many.ROUTERS,
}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = options().parse_args(argv)
    asked = arguments.metrics.split(",") if arguments.metrics else None
    asked = [] if arguments.marks else asked
    broken = []
    for name in arguments.family or FAMILIES:
        family = FAMILIES[name]
        wanted = [metric for metric in family.claims if asked is None or metric in asked]
        if not arguments.print:
            write(name, family)
        for row in family.rows(wanted):
            broken += [f"{row.metric} claims {f}, and does not see it" for f in row.broken]
            print(row, *(f"(sees {f})" for f in row.unclaimed), file=sys.stderr, flush=True)
            if not arguments.print:
                write(name, family, row)
    print(*broken, sep="\n", file=sys.stderr)
    return int(bool(broken))


def write(name: str, family: Family, *made: Row) -> None:
    """Rows into their table: at once, as hours may be lost. Rows that are not made stay, those of
    metrics that cannot be computed here among them."""
    page = PAGE.read_text(encoding="utf-8")
    rows = kept(page, name, family) | {row.metric: str(row) for row in made}
    text = table(family, [rows[metric] for metric in family.claims if metric in rows])
    pages.write(PAGE, name, text)


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--family", action="append", choices=FAMILIES, help="this table alone")
    parser.add_argument("--metrics", metavar="NAME,...", help="these alone; other rows stay")
    parser.add_argument("--marks", action="store_true", help="only mark today's claims in the page")
    parser.add_argument("--print", action="store_true", help="print rows; leave the page")
    return parser


if __name__ == "__main__":
    sys.exit(main())
