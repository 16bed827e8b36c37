"""What names, files, folders and VBench's copy give as prompts."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from pytest_vdb import prompts
from pytest_vdb.errors import UnknownPrompts
from pytest_vdb.records import Prompt, Workload

HERE = Path()


def load(which: str | list[str], root: Path = HERE) -> tuple[Prompt, ...]:
    return prompts.load(which, root)


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
    (tmp_path / "root").mkdir()
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
