"""Prompt suites: what is shipped, and what files, folders and VBench's copy give."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from pytest_vdb import prompts
from pytest_vdb.errors import UnknownPrompts
from pytest_vdb.gate.rules import PROMPTS_TO_GATE
from pytest_vdb.records import Prompt, Workload

# Never change an entry: a suite with other lines is a new version, with a new entry.
PINNED = {
    ("smoke", "1"): "96fb18559d479558aeaa7c059c3b1dd356964ebc43099aaf720046f8049bb8cd",
    ("standard", "1"): "33e0af32619a58fbf6993053348e6224606d711985277f45e0c0aa25c9508e58",
    ("motion", "1"): "84321ba5a0ee5e3f98b818aafb0d1094ddbb1adf04ee5c21bef4b247d2a061b3",
    ("long", "1"): "0a88c3a63797e6e4f8abf7c7ff4cdb0d3a9312a2c34731d78f4b41a2299f24b8",
    ("images", "1"): "608b3f01716d8573ca2b5d5d6262c5661a7ce10fb736ec9e79a2b62f6cdff4b2",
}
SIZES = {"smoke": 8, "standard": 64, "motion": 48, "long": 16, "images": 12}
HERE = Path()


def load(which: str | list[str], root: Path = HERE) -> tuple[Prompt, ...]:
    return prompts.load(which, root)


def tags(prompt: Prompt) -> dict[str, str]:
    """One value an axis; of an axis that stands there twice, the last."""
    return dict(tag.split(":", 1) for tag in prompt.tags)


# --------------------------------------------------------------------- the shipped suites


@pytest.mark.parametrize("name", SIZES)
def test_a_suite_is_what_its_version_says(name: str) -> None:
    suite = next(s for s in prompts.describe() if s.name == name)
    assert suite.sha256 == PINNED[name, suite.version], (
        "a changed suite needs the next version in SHIPPED and a new entry here"
    )
    assert (suite.n, len(load(name))) == (SIZES[name], SIZES[name])


def test_every_shipped_file_is_a_suite() -> None:
    files = {path.stem for path in Path(prompts.__file__).parent.glob("*.jsonl")}
    assert files == set(prompts.suites()) == set(SIZES)


def test_no_text_and_no_id_stands_in_two_suites() -> None:
    every = [prompt for name in SIZES for prompt in load(name)]
    assert len({p.id for p in every}) == len({p.text for p in every}) == sum(SIZES.values())


@pytest.mark.parametrize("name", SIZES)
def test_texts_are_plain(name: str) -> None:
    for prompt in load(name):
        assert prompt.text.isascii()
        assert prompt.text.isprintable()
        assert prompt.text == " ".join(prompt.text.split())
        assert prompt.id.startswith(f"{name}-")
        if name != "long":  # 3 tokens for 2 words at the very most: below 77 everywhere
            assert 5 <= len(prompt.text.split()) <= 45


def test_smoke_has_the_fewest_prompts_that_gate_statistically() -> None:
    assert SIZES["smoke"] == PROMPTS_TO_GATE


AXES = {"subject": 8, "action": 8, "camera": 8, "style": 8, "count": 4, "colour": 8, "relation": 8}


@pytest.mark.parametrize("axis", AXES)
def test_standard_is_balanced(axis: str) -> None:
    counts = Counter(tags(prompt)[axis] for prompt in load("standard"))
    assert set(counts.values()) == {64 // AXES[axis]}
    assert min(counts.values()) >= PROMPTS_TO_GATE  # so every value can gate by itself


@pytest.mark.parametrize(("one", "other"), itertools.combinations(AXES, 2))
def test_every_two_axes_of_standard_are_balanced_together(one: str, other: str) -> None:
    """An orthogonal array: the effect of one axis is never another's in disguise."""
    pairs = Counter((tags(p)[one], tags(p)[other]) for p in load("standard"))
    assert len(pairs) == AXES[one] * AXES[other]
    assert len(set(pairs.values())) == 1


SAYS = {
    "camera": {
        "static": "static camera",
        "pan-left": "camera pans left",
        "pan-right": "camera pans right",
        "tilt-up": "camera tilts up",
        "zoom-in": "camera zooms in",
        "zoom-out": "camera zooms out",
        "orbit": "camera circles",
        "tracking": "tracking shot",
    },
    "style": {
        "documentary": "documentary footage",
        "cinematic": "cinematic",
        "vintage-film": "vintage film",
        "studio": "studio",
        "watercolour": "watercolour painting",
        "clay": "clay animation",
        "paper-cutout": "paper cut-out animation",
        "pixel-art": "pixel art",
    },
    "relation": {
        "left-of": "to the left of",
        "right-of": "to the right of",
        "above": "above",
        "below": "below",
        "in-front-of": "in front of",
        "behind": "behind",
        "inside": "inside",
        "on-top-of": "on top of",
    },
    "count": {word: word for word in ("one", "two", "three", "four")},
    "colour": {
        word: word
        for word in ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
    },
}


@pytest.mark.parametrize("axis", SAYS)
def test_texts_of_standard_say_what_their_tags_say_and_nothing_else(axis: str) -> None:
    for prompt in load("standard"):
        said = [v for v, w in SAYS[axis].items() if re.search(rf"\b{w}\b", prompt.text.lower())]
        assert said == [tags(prompt)[axis]], prompt.text


def test_every_kind_of_motion_can_gate_by_itself() -> None:
    kinds = Counter(tags(prompt)["kind"] for prompt in load("motion"))
    assert kinds == dict.fromkeys(
        ("camera", "rigid", "periodic", "fluid", "articulated", "still"), PROMPTS_TO_GATE
    )
    for kind in kinds:
        speeds = Counter(tags(prompt)["speed"] for prompt in load(f"motion:kind:{kind}"))
        assert speeds == ({"still": 8} if kind == "still" else {"fast": 4, "slow": 4})


def test_a_pair_of_long_prompts_differs_at_its_end_alone() -> None:
    assert len(load("long:tail:a")) == PROMPTS_TO_GATE
    for one, other in zip(load("long:tail:a"), load("long:tail:b"), strict=True):
        assert tags(one)["pair"] == tags(other)["pair"]
        same = len(os.path.commonprefix([one.text, other.text]))
        words = len(one.text[:same].split())
        assert len(one.text[same:].split()) <= 15
        assert max(len(one.text), len(other.text)) - same < 90
        # Counted with the tokenizers of CLIP, T5 and Llama 3: above 1.08, below 1.4 a word.
        past = [int(tag.split(":")[1]) for tag in one.tags if tag.startswith("past:")]
        assert all(words * 1.15 >= limit for limit in past)
        assert int(tags(one)["tokens"]) == pytest.approx(len(one.text.split()) * 1.35, rel=0.1)


@pytest.mark.parametrize(
    ("limit", "pairs"), [(77, 7), (128, 6), (226, 5), (256, 4), (512, 1)], ids=str
)
def test_long_reaches_past_every_limit(limit: int, pairs: int) -> None:
    assert len(load(f"long:past:{limit}")) == 2 * pairs


def test_a_model_that_drops_the_end_of_a_prompt_makes_one_video_of_a_pair() -> None:
    """What ``long`` is for, with a real encoder that reads 64 or 512 tokens (here: bytes)."""
    from pytest_vdb.models.catalog import CATALOG
    from pytest_vdb.models.open import open_source

    spec = next(spec for spec in CATALOG if spec.name == "tiny-wan")
    source = open_source(spec)
    size = {"num_frames": 5, "height": 64, "width": 64, "num_inference_steps": 2}

    def videos(limit: int) -> set[bytes]:
        call = {**spec.call, **size, "max_sequence_length": limit}
        return {source.generate(p, 0, call).frames.tobytes() for p in load("long:pair:1")}

    assert len(videos(64)) == 1
    assert len(videos(512)) == 2


def test_images_are_those_that_the_suite_was_written_for() -> None:
    for prompt in load("images"):
        assert prompt.image is not None
        assert os.path.isabs(prompt.image)
        content = Path(prompt.image).read_bytes()
        assert prompt.image_sha256 == hashlib.sha256(content).hexdigest()
        with Image.open(prompt.image) as picture:
            assert min(picture.size) >= 300
    code = (
        "import sys, pathlib; from pytest_vdb import prompts; "
        "prompts.load('images', pathlib.Path()); prompts.describe(); "
        "assert not {'skimage', 'PIL', 'numpy', 'vbench'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_scikit_image_it_is_named() -> None:
    code = (
        "import sys, pathlib; sys.modules['skimage'] = None; from pytest_vdb import prompts; "
        "assert next(s for s in prompts.describe() if s.name == 'images').n == 12; "
        "prompts.load('images', pathlib.Path())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "UnknownPrompts: suite 'images', line 1" in done.stderr
    assert 'pip install "pytest-vdb[images]"' in done.stderr


# --------------------------------------------------------------------- names and tags


def test_a_tag_chooses_from_a_suite_and_from_a_file(tmp_path: Path) -> None:
    clay = load("standard:style:clay")
    assert len(clay) == 8
    assert all("clay animation" in prompt.text for prompt in clay)
    assert clay == tuple(p for p in load("standard") if "style:clay" in p.tags)
    assert len(load("standard:style")) == 64
    (tmp_path / "p.csv").write_text("prompt,tags\na fox,night snow:deep\na cat,day\n")
    assert [p.text for p in load("p.csv:night", tmp_path)] == ["a fox"]
    assert [p.text for p in load("p.csv:snow", tmp_path)] == ["a fox"]


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("smok", "did you mean 'smoke'"),
        ("vbensh", "did you mean 'vbench'"),
        ("smoke:", "no prompt suite 'smoke:'"),
        ("standard:stile:clay", "none has the tag 'stile:clay': did you mean 'style:clay'"),
        ("standard:sty", "none has the tag 'sty'"),
        ("smoke:style", "none has the tag 'style': known: none"),
        ("none.jsonl", "none.jsonl cannot be read"),
        ("none.csv:night", "none.csv cannot be read"),
        ("none/", "folder .*none of images cannot be read"),
        ("", "no prompt suite ''"),
    ],
)
def test_unknown_names(tmp_path: Path, which: str, message: str) -> None:
    with pytest.raises(UnknownPrompts, match=message):
        load(which, tmp_path)


@pytest.mark.parametrize(
    ("texts", "message"),
    [([" "], "the list: no text"), (["\ud800"], "the list: no text"), (["a", "a"], "twice")],
)
def test_wrong_lists(texts: list[str], message: str) -> None:
    with pytest.raises(UnknownPrompts, match=message.replace("no text", "there is no text")):
        load(texts)


# --------------------------------------------------------------------- files


def test_texts_and_files(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a fox", "id": "fox"}\n\n{"prompt": "a cat"}\n')
    (tmp_path / "p.txt").write_text("a fox\na cat\n")
    fox, cat = load("p.jsonl", tmp_path)
    assert (fox.id, fox.text, cat.text) == ("fox", "a fox", "a cat")
    assert load("p.txt", tmp_path) == load(["a fox", "a cat"])
    assert cat == load(["a cat"])[0]


def test_every_field_of_a_json_line(tmp_path: Path) -> None:
    picture(tmp_path / "fox.png")
    line = {"prompt": "it runs", "id": 7, "image": "fox.png", "tags": ["day", "a:b"], "note": "x"}
    (tmp_path / "p.jsonl").write_text(json.dumps(line))
    sha256 = hashlib.sha256((tmp_path / "fox.png").read_bytes()).hexdigest()
    expected = Prompt("7", "it runs", str(tmp_path.resolve() / "fox.png"), sha256, ("day", "a:b"))
    assert load("p.jsonl", tmp_path) == (expected,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "p.jsonl holds no prompts"),
        ("not json", "p.jsonl, line 1: no JSON object"),
        ('{"prompt": "a"}\n\n["b"]', "p.jsonl, line 3: no JSON object"),
        ("[" * 100_000, "line 1: no JSON object"),
        ('{"text": "x"}', "line 1: there is no text under 'prompt'"),
        ('{"prompt": "  "}', "line 1: there is no text"),
        ('{"prompt": 5, "id": "x"}', "line 1: there is no text"),
        ('{"prompt": "\\ud800"}', "line 1: there is no text"),
        ('{"prompt": "a"}\n{"prompt": "a"}', r"p.jsonl holds prompt 'ca978112' \('a'\) twice$"),
        ('{"prompt": "a", "id": "1"}\n{"prompt": "a", "id": "2"}', "'2' .* twice, also as '1'"),
        ('{"prompt": "a", "id": "1"}\n{"prompt": "b", "id": "1"}', "'1' .* twice$"),
        ('{"prompt": "a", "id": "x\\ny"}', "line 1: id 'x.*an id is a name"),
        ('{"prompt": "a", "id": ["x"]}', "line 1: id .*an id is a name"),
        ('{"prompt": "a", "tags": "day"}', "line 1: tags 'day'; give a list"),
        ('{"prompt": "a", "tags": ["by day"]}', "line 1: tags"),
        ('{"prompt": "a", "image": 5}', "line 1: image 5 is no path"),
        ('{"prompt": "a", "image": "a\\u0000b"}', "line 1: image"),
    ],
)
def test_wrong_json_lines(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(UnknownPrompts, match=message):
        load("p.jsonl", tmp_path)


@pytest.mark.parametrize("text", ["one\u2028two", "one\x85two"])
def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.jsonl").write_text(f'{{"prompt": "{text}"}}\n', encoding="utf-8")
    (tmp_path / "p.txt").write_text(f"{text}\n", encoding="utf-8")
    for name in ("p.jsonl", "p.txt"):
        assert [p.text for p in load(name, tmp_path)] == [text]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
def test_any_editor_s_line_ends_and_byte_order_mark(tmp_path: Path, end: bytes, mark: bytes):
    files = {
        "p.txt": [b"a fox", "a café".encode()],
        "p.jsonl": [b'{"prompt": "a fox"}', '{"prompt": "a café"}'.encode()],
        "p.csv": [b"prompt", b"a fox", "a café".encode()],
    }
    for name, lines in files.items():
        (tmp_path / name).write_bytes(mark + end.join(lines) + end)
        assert load(name, tmp_path) == load(["a fox", "a café"])


def test_a_file_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes("prompt\ncafé\n".encode("latin-1"))
    with pytest.raises(UnknownPrompts, match=r"p.csv cannot be read: 'utf-8'"):
        load("p.csv", tmp_path)


def test_the_dialect_of_csv(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(
        b"id, prompt ,tags,source\r\n"
        b'1,"a fox, a cat",day,web\r\n'
        b"\r\n"
        b',,,\r\n'
        b',"she said ""run""",,\r\n'
        b'3,"two\r\nlines","a:b  c"\r\n'
    )  # fmt: skip
    one, two, three = load("p.csv", tmp_path)
    assert (one.id, one.text, one.tags) == ("1", "a fox, a cat", ("day",))
    assert (two.id, two.text, two.tags) == (
        prompts.prompt_id(two.text),
        'she said "run"',
        (),
    )
    assert (three.id, three.text, three.tags) == ("3", "two\r\nlines", ("a:b", "c"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "p.csv holds no prompts"),
        ("prompt\n", "p.csv holds no prompts"),
        ("a fox\na cat\n", "line 1: a CSV file begins with the names of its columns"),
        ("prompt;id\na fox;1\n", "line 1: a CSV .*parted by commas; not .'prompt;id'"),
        ("prompt,prompt\na,b\n", "line 1: a CSV .*each once"),
        ("prompt,id\na fox, a cat,1\n", "line 2: 3 cells under 2 columns; put double quotes"),
        ('prompt\n"two\nlines"\n"open\n', "line 4: unexpected end of data"),
        ('prompt\n"two\nlines"\n"a" b\n', "line 4: .*expected after"),
        ('prompt,id\n"two\nlines",1\n,2\n', "line 4: there is no text"),
        (f"prompt\n{'a' * 200_000}\n", "line 2: field larger than field limit"),
    ],
)
def test_wrong_csv(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "p.csv").write_bytes(content.encode())
    with pytest.raises(UnknownPrompts, match=message):
        load("p.csv", tmp_path)


# --------------------------------------------------------------------- images


def picture(path: Path, shade: int = 90, **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (shade, 20, 30)).save(path, **how)
    return path


def line(tmp_path: Path, image: str) -> tuple[Prompt, ...]:
    (tmp_path / "sub").mkdir(exist_ok=True)
    row = {"prompt": "it moves", "image": image}
    (tmp_path / "sub" / "p.jsonl").write_text(json.dumps(row))
    return load("sub/p.jsonl", tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif"])
def test_an_image_is_named_from_its_file_s_folder(tmp_path: Path, suffix: str) -> None:
    path = picture(tmp_path / "sub" / f"a.{suffix}")
    (prompt,) = line(tmp_path, f"a.{suffix}")
    assert prompt.image == str(path.resolve())
    assert prompt.image_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_image_elsewhere_below_the_root_is_fine_and_one_outside_is_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    inside = picture(root / "stills" / "a.png")
    outside = picture(tmp_path / "secret.png")
    assert line(root, "../stills/a.png")[0].image == str(inside.resolve())
    for way_out in ("../../secret.png", str(outside)):
        with pytest.raises(UnknownPrompts, match=r"line 1: image .* out of .*put it beside"):
            line(root, way_out)


def test_a_link_out_of_the_root_is_followed_and_refused(tmp_path: Path) -> None:
    outside = picture(tmp_path / "secret.png")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    try:
        (root / "sub" / "a.png").symlink_to(outside)
    except OSError:
        pytest.skip("this system lets nobody make links")
    with pytest.raises(UnknownPrompts, match=r"leads to .*secret\.png, out of"):
        line(root, "a.png")
    (root / "sub" / "loop").symlink_to("loop")
    with pytest.raises(UnknownPrompts, match="line 1"):
        line(root, "loop")


def test_a_prompt_file_outside_of_the_root_may_use_what_lies_beside_it(tmp_path: Path) -> None:
    picture(tmp_path / "shared" / "a.png")
    (tmp_path / "shared" / "p.csv").write_text("image\na.png\n")
    (prompt,) = load("../shared/p.csv", tmp_path / "root")
    assert (prompt.text, Path(str(prompt.image)).name) == ("", "a.png")


@pytest.mark.parametrize("content", [b"", b"\x89PN", b"<svg/>", b"BMovie titles, in a text file"])
def test_what_is_clearly_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(content)
    with pytest.raises(UnknownPrompts, match=r"p\.jsonl, line 1: .*a\.png is no image"):
        line(tmp_path, "a.png")


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownPrompts, match=r"line 1: there is no image .*a\.png"):
        line(tmp_path, "a.png")
    (tmp_path / "sub" / "b.png").mkdir()
    with pytest.raises(UnknownPrompts, match="there is no image"):
        line(tmp_path, "b.png")


@pytest.mark.parametrize("name", ["astronautt", "../../setup", "", "text.txt"])
def test_an_image_that_scikit_image_does_not_ship(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownPrompts, match="scikit-image ships no image"):
        line(tmp_path, f"skimage:{name}")


def test_another_image_under_the_same_name_is_another_workload(tmp_path: Path) -> None:
    def workload() -> Workload:
        return Workload(line(tmp_path, "a.png"), (0,), {})

    path = picture(tmp_path / "sub" / "a.png")
    before = workload()
    assert workload().hash == before.hash
    picture(path, shade=91)
    os.utime(path, ns=(1, 1))  # also where the clock is coarse
    assert workload().hash != before.hash


def test_an_image_may_be_pinned(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    for name, pinned in (("good", sha256), ("bad", "0" * 64)):
        row = {"prompt": "it moves", "image": "a.png", "image_sha256": pinned}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    assert load("good.jsonl", tmp_path)[0].image_sha256 == sha256
    with pytest.raises(UnknownPrompts, match=r"line 1: .*a\.png has sha256 .* it is another image"):
        load("bad.jsonl", tmp_path)


def test_one_text_for_several_images_and_several_texts_for_one(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", shade=1)
    (tmp_path / "p.csv").write_text(
        "prompt,image\nit turns,a.png\nit turns,b.png\nit falls,a.png\n"
    )
    assert len({p.id for p in load("p.csv", tmp_path)}) == 3
    with (tmp_path / "p.csv").open("a") as file:
        file.write("it falls,a.png\n")
    with pytest.raises(UnknownPrompts, match="twice"):
        load("p.csv", tmp_path)


def test_a_folder_of_images_is_a_suite(tmp_path: Path) -> None:
    picture(tmp_path / "stills" / "b.PNG", format="PNG")
    picture(tmp_path / "stills" / "a.jpg")
    (tmp_path / "stills" / ".DS_Store").write_bytes(b"\0")
    assert [(p.id, p.text) for p in load("stills/", tmp_path)] == [("a.jpg", ""), ("b.PNG", "")]
    (tmp_path / "stills" / "a.txt").write_text("the fox runs\n")
    with pytest.raises(UnknownPrompts, match=r"b\.PNG has no b\.txt; write one"):
        load("stills/", tmp_path)
    (tmp_path / "stills" / "b.txt").write_text("")
    assert [p.text for p in load("stills/", tmp_path)] == ["the fox runs", ""]
    with pytest.raises(UnknownPrompts, match="write 'stills/' for the images of that folder"):
        load("stills", tmp_path)


def test_wrong_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownPrompts, match=r"empty \(.png, .* holds no prompts"):
        load("empty/", tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"not found")
    with pytest.raises(UnknownPrompts, match=r"broken: .*a\.png is no image"):
        load("broken/", tmp_path)


# --------------------------------------------------------------------- VBench

ENTRIES = [
    {"prompt_en": "a lamp that glows", "dimension": ["temporal_flickering"]},
    {
        "prompt_en": "a lamp left of a vase",
        "dimension": ["spatial_relationship"],
        "auxiliary_info": {
            "spatial_relationship": {
                "spatial_relationship": {
                    "object_a": "lamp",
                    "object_b": "vase",
                    "relationship": "on the left of",
                }
            }
        },
    },
    {"prompt_en": "a lamp that glows", "dimension": ["scene", "background_consistency"]},
]


def test_a_copy_of_vbench_s_file_by_dimension(tmp_path: Path) -> None:
    (tmp_path / "VBench_full_info.json").write_text(json.dumps(ENTRIES))
    lamp, both = load("VBench_full_info.json", tmp_path)
    assert (lamp.text, lamp.id) == ("a lamp that glows", prompts.prompt_id("a lamp that glows"))
    assert lamp.tags == ("temporal_flickering", "scene", "background_consistency")
    assert load("VBench_full_info.json:scene", tmp_path) == (lamp,)
    assert load("VBench_full_info.json:spatial_relationship", tmp_path) == (both,)
    with pytest.raises(UnknownPrompts, match="did you mean 'scene'"):
        load("VBench_full_info.json:scenes", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("{}", "is no list of prompts"),
        ("[]", "holds no prompts"),
        ('[{"prompt": "a"}]', "entry 1 has no text 'prompt_en'"),
        ('["a"]', "entry 1 has no text"),
        ('[{"prompt_en": "a", "dimension": "scene"}]', "entry 1 has no .*list 'dimension'"),
        ('[{"prompt_en": 5, "dimension": ["scene"]}]', "entry 1: there is no text"),
        ('[{"prompt_en": "a", "dimension": [], "image_name": "a.jpg"}]', "VBench-I2V"),
    ],
)
def test_wrong_copies_of_vbench(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "v.json").write_text(content)
    with pytest.raises(UnknownPrompts, match=message):
        load("v.json", tmp_path)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that Python takes for the installed ``vbench``, which fails when imported."""
    (tmp_path / "vbench").mkdir()
    (tmp_path / "vbench" / "__init__.py").write_text("raise ImportError('it was imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "vbench"


def test_the_installed_vbench_is_read_and_not_imported(package: Path) -> None:
    with pytest.raises(UnknownPrompts, match=r"pip install --no-deps vbench, or name your own"):
        load("vbench")
    assert prompts.describe()[-1].n is None
    (package / "VBench_full_info.json").write_text(json.dumps(ENTRIES))
    assert len(load("vbench")) == 2
    assert [p.text for p in load("vbench:scene")] == ["a lamp that glows"]
    assert prompts.describe()[-1].n == 2
    assert "vbench" not in sys.modules
