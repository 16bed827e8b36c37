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
    ],
)
def test_wrong_files(tmp_path, content, message):
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(UnknownPrompts, match=message):
        prompts.load("p.jsonl", tmp_path)


def test_unknown_suites_and_missing_files(tmp_path):
    with pytest.raises(UnknownPrompts, match="did you mean 'smoke'"):
        prompts.load("smok", tmp_path)
    with pytest.raises(UnknownPrompts, match="cannot be read"):
        prompts.load("none.jsonl", tmp_path)
