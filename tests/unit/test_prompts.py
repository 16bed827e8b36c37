import pytest

from pytest_vdb import prompts
from pytest_vdb.errors import UnknownPrompts


def test_smoke_has_the_fewest_prompts_that_gate_statistically(tmp_path):
    assert len(prompts.load("smoke", tmp_path)) == 8


def test_texts_and_files(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a fox", "id": "fox"}\n\n{"prompt": "a cat"}\n')
    (tmp_path / "p.txt").write_text("a fox\na cat\n")
    fox, cat = prompts.load("p.jsonl", tmp_path)
    assert (fox.id, fox.text, cat.text) == ("fox", "a fox", "a cat")
    assert prompts.load("p.txt", tmp_path) == prompts.load(["a fox", "a cat"], tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no prompts"),
        ("not json", "line 1 is no prompt"),
        ('{"text": "x"}', "line 1 is no prompt"),
        ('{"prompt": "a"}\n{"prompt": "a"}', "twice"),
        ('{"prompt": "\\ud800"}', "line 1 is no prompt"),
        ('{"prompt": "a", "id": "x\\ny"}', "line 1 is no prompt"),
        ('{"prompt": 5, "id": "x"}', "line 1 is no prompt"),
        ("[" * 100_000, "line 1 is no prompt"),
    ],
)
def test_wrong_files(tmp_path, content, message):
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(UnknownPrompts, match=message):
        prompts.load("p.jsonl", tmp_path)


@pytest.mark.parametrize("text", ["one\u2028two", "one\x85two"])
def test_a_line_ends_at_a_line_feed_alone(tmp_path, text):
    (tmp_path / "p.jsonl").write_text(f'{{"prompt": "{text}"}}\n', encoding="utf-8")
    (tmp_path / "p.txt").write_text(f"{text}\n", encoding="utf-8")
    for name in ("p.jsonl", "p.txt"):
        assert [p.text for p in prompts.load(name, tmp_path)] == [text]


def test_unknown_suites_and_missing_files(tmp_path):
    with pytest.raises(UnknownPrompts, match="did you mean 'smoke'"):
        prompts.load("smok", tmp_path)
    with pytest.raises(UnknownPrompts, match="cannot be read"):
        prompts.load("none.jsonl", tmp_path)
