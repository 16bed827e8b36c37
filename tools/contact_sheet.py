"""Draw a contact sheet of what a model makes of a prompt suite: one captioned cell a prompt.

python tools/contact_sheet.py docs/shapes.webp                       an animation
python tools/contact_sheet.py sheet.png --prompts shapes --count 48  first, middle and last frame
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from pytest_vdb.models.open import open_source
from pytest_vdb.models.registry import Registry
from pytest_vdb.prompts import load

CELL, TEXT, GAP, FPS = 128, 40, 8, 8
PAPER, INK = (255, 255, 255), (40, 40, 40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("picture", type=Path, help=".webp (animated) or .png")
    parser.add_argument("--model", default="shapes")
    parser.add_argument("--prompts", default="shapes")
    parser.add_argument("--count", type=int, default=12, help="prompts, spread over the suite")
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    spec = Registry().find(asked.model)
    suite = load(asked.prompts, Path.cwd())
    chosen = [suite[i * len(suite) // asked.count] for i in range(asked.count)]
    torch.set_num_threads(int(spec.options.get("num_threads", torch.get_num_threads())))
    source = open_source(spec)
    videos = [np.asarray(source.generate(p, asked.seed, spec.call).frames) for p in chosen]
    videos = [v if v.dtype == np.uint8 else np.rint(v * 255).astype(np.uint8) for v in videos]
    captions = [prompt.text for prompt in chosen]
    if asked.picture.suffix == ".png":
        strips = [np.concatenate(v[[0, len(v) // 2, -1]], axis=1) for v in videos]
        sheet(strips, captions, asked.columns).save(asked.picture, optimize=True)
        return
    length = min(map(len, videos))
    pages = [sheet([v[i] for v in videos], captions, asked.columns) for i in range(length)]
    pages[0].save(
        asked.picture,
        save_all=True,
        append_images=pages[1:],
        duration=[1000 // FPS] * (length - 1) + [6000 // FPS],  # a rest before it starts anew
        loop=0,
        quality=80,
    )


def sheet(pictures: list[np.ndarray], captions: list[str], columns: int) -> Image.Image:
    """uint8 (H, W, 3) pictures of one size on a grid, each over its caption."""
    width = CELL * pictures[0].shape[1] // pictures[0].shape[0]
    rows = -(-len(pictures) // columns)
    size = (columns * (width + GAP) + GAP, rows * (CELL + TEXT + GAP) + GAP)
    page = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x = GAP + i % columns * (width + GAP)
        y = GAP + i // columns * (CELL + TEXT + GAP)
        cell = Image.fromarray(picture).resize((width, CELL), Image.Resampling.LANCZOS)
        page.paste(cell, (x, y))
        lines = textwrap.wrap(caption, width // 6)
        draw.multiline_text((x, y + CELL + 2), "\n".join(lines), INK, font, spacing=1)
    return page


if __name__ == "__main__":
    main()
