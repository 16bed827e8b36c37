"""``vdb push``: bring reference media, and baseline files where asked, to a URL."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_vdb.errors import LostMedium


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "baselines",
        nargs="?",
        type=Path,
        default=Path("baselines"),
        help="folder of the baselines, as --vdb-baselines (default: baselines)",
    )
    parser.add_argument(
        "url", help="where to, as --vdb-store: s3://bucket/media, file:///mnt/media"
    )
    parser.add_argument(
        "--store", type=Path, metavar="DIR", help="folder of the media (default: BASELINES/media)"
    )
    parser.add_argument(
        "--files",
        action="store_true",
        help="bring the baseline files too: the URL is then for --vdb-baselines",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="with --files: also over sessions that are there and not here",
    )


def run(options: argparse.Namespace) -> None:
    """Raises LostMedium where a medium is neither here nor there, after all others were sent."""
    from pytest_vdb.baseline.opening import media_cache
    from pytest_vdb.baseline.push import push
    from pytest_vdb.places import shown

    media = options.store or options.baselines / "media"
    done = push(
        options.baselines,
        media,
        media_cache(),
        options.url,
        files=options.files,
        replace=options.replace,
    )
    sent = f"{done.sent} media sent, {done.there} were there"
    files = f", {done.files} baseline files sent" if options.files else ""
    print(f"{shown(options.url)}: {sent}{files}")
    if done.lost:
        names = ", ".join(f"{sha256[:12]}…" for sha256 in done.lost[:4])
        held = "; no baseline file was sent" if options.files else ""
        raise LostMedium(
            f"{len(done.lost)} reference media are neither in {media} nor there: {names}{held}. "
            "Push from where the baseline was made, or write it anew"
        )
