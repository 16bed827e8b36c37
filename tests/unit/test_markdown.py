"""The page of a pull request, rendered by GitHub's own cmark: what it says, and what cannot be put
into it."""

from __future__ import annotations

import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_vdb.report.gfm import Section, fitted
from pytest_vdb.report.markdown import LIMIT, MARK, markdown
from pytest_vdb.report.ranked import ranked, sure
from pytest_vdb.report.writers import Context

cmarkgfm = pytest.importorskip("cmarkgfm", reason="pip install cmarkgfm: GitHub's renderer")

HERE = Context(Path("/repo"), "https://ci.example/runs/1")
FAILS = {"consequence": "fail"}
WORSE = {**FAILS, "effect": -0.1, "interval": (-0.13, -0.07), "baseline": 0.55, "p": 1e-5}


def html(text: str) -> str:
    from cmarkgfm.cmark import Options

    return str(cmarkgfm.github_flavored_markdown_to_html(text, Options.CMARK_OPT_UNSAFE))


class Page(HTMLParser):
    """What of a page is not code: tags with their attributes, comments, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.skeleton: list[object] = []
        self.cells: list[int] = []
        self.text = ""
        self._code = 0
        self.feed(html(text))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._code += tag in ("code", "pre")
        self.skeleton.append((tag, attrs))
        if tag == "tr":
            self.cells.append(0)
        if tag in ("td", "th"):
            self.cells[-1] += 1

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("code", "pre")
        self.skeleton.append(("end", tag))

    def handle_data(self, data: str) -> None:
        if not self._code:
            self.skeleton.append(data)
            self.text += data

    def handle_comment(self, data: str) -> None:
        self.skeleton.append(("comment", data))

    handle_decl = unknown_decl = handle_pi = handle_comment


# ------------------------------------------------------------------------- what it says


def first(text: str) -> str:
    return text.splitlines()[1]


def test_the_verdict_comes_first_in_one_sentence(ran, tested, measured):
    run = ran(
        1,
        tested("b.py::test_a", "passed", measured("kept", "PASS", effect=0.0)),
        tested("b.py::test_b", "failed", measured("clip", "REGRESSION", **WORSE)),
        tested("b.py::test_c", "failed", measured("fvd", "NO_BASELINE", **FAILS)),
        tested("b.py::test_d", "failed", failure={"text": "assert 1 < 0", "file": None}),
    )
    text = markdown(run, HERE)
    assert text.startswith(MARK)
    assert first(text) == (
        "### ❌ The video gate fails: 1 measurement got worse, 1 measurement has no baseline and "
        "1 test failed its own assertion (worst: `clip` -10.0%)"
    )


@pytest.mark.parametrize(
    ("code", "entries", "said"),
    [
        (0, [("PASS", {}), ("IMPROVEMENT", {})], "✅ The video gate passes: 2 measurements held "),
        (0, [("INCONCLUSIVE", {"consequence": "warn"})], "✅ The video gate passes: 1 undecided"),
        (0, [], "⚠️ Nothing was gated: no test measured anything"),
        (10, [("INFRA_ERROR", {"consequence": "error"})], "⚠️ No verdict: the machine failed"),
        (2, [("PASS", {})], "❌ No verdict: pytest was interrupted"),
        (5, [], "❌ No verdict: pytest ran no test"),
        (1, [("PASS", {})], "❌ The video gate fails: something beside the measurements failed"),
    ],
)
def test_every_end_of_a_run_has_its_sentence(ran, tested, measured, code, entries, said):
    rows = [measured(f"m{i}", state, **more) for i, (state, more) in enumerate(entries)]
    outcome = "error" if code == 10 else "passed"
    assert said in first(markdown(ran(code, tested("a.py::t", outcome, *rows)), HERE))


def test_one_cause_is_counted_once(ran, lost):
    said = "### ❌ The video gate fails: 1 measurement could not be taken"
    text = markdown(ran(1, lost), HERE)
    assert first(text) == said
    assert f"a.py:20: {lost['failure']['text']}\n```" in text
    lost["failure"]["text"] = "assert 1 < 0"  # of its own: the error before was swallowed
    assert first(markdown(ran(1, lost), HERE)).endswith("taken and 1 test failed its own assertion")


def test_what_was_measured_and_cannot_be_judged_is_not_called_unmeasured(ran, tested, measured):
    entry = measured("latency", "UNMEASURED", **FAILS, tolerance="auto", reason="run vdb calibrate")
    text = markdown(ran(1, tested("a.py::t", "failed", entry)), HERE)
    assert first(text).endswith("1 measurement could not be judged")
    assert "**❌ not judged**" in text
    assert "| measured, but not judged: `run vdb calibrate`" in text
    assert "not measured" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("AssertionError: assert ssim.min > 0.9", "failed its own assertion"),
        ("assert 1 < 0", "failed its own assertion"),
        ("RuntimeError: CUDA error: device-side assert triggered", "broke"),
    ],
    ids=["explained", "plain", "CUDA"],
)
def test_an_assertion_is_what_a_test_asserts(ran, tested, text, said):
    run = ran(1, tested("a.py::t", "failed", failure={"text": text, "file": None, "line": None}))
    assert first(markdown(run, HERE)) == f"### ❌ The video gate fails: 1 test {said}"


def test_a_green_run_with_lost_writes_is_no_pass(ran, tested, measured):
    run = ran(0, tested("a.py::t", "passed", measured("kept", "PASS", effect=0.0)))
    lost = Context(Path("/repo"), trouble=("page was not written",))
    assert "❌ The video gate fails: not everything could be written" in first(markdown(run, lost))


def test_no_number_of_rows_hides_that_a_change_edits_its_own_gate(ran, tested, measured):
    rows = [measured(f"better{i}", "IMPROVEMENT", effect=0.2, p=0.001) for i in range(900)]
    run = ran(0, tested("a.py::t", "passed", *rows))
    edit = {"path": "baselines/a.json", "what": "baseline", "how": "changed", "restored": True}
    run["gate_edits"] = {
        "ref": "main",
        "commit": "abc",
        "fork": "abc",
        "edits": [edit | {"lines": []}],
    }
    text = markdown(run, HERE)
    assert len(text.encode()) <= LIMIT
    assert "This change edits its own" in text
    assert "baselines/a.json" in text


def test_the_table_shows_what_changed_worst_first(ran, tested, measured):
    rows = [
        measured("better", "IMPROVEMENT", effect=0.2, interval=(0.1, 0.3), p=0.001),
        measured("same", "PASS", effect=0.0),
        measured("little", "REGRESSION", **WORSE | {"effect": -0.03, "interval": (-0.05, -0.01)}),
        measured("much", "REGRESSION", **WORSE),
        measured("open", "INCONCLUSIVE", consequence="warn", effect=-0.01, interval=(-0.1, 0.1)),
    ]
    text = markdown(ran(1, tested("a.py::t", "failed", *rows)), HERE)
    table = [line for line in text.partition("<details>")[0].splitlines() if "`" in line][2:]
    assert [line.split("`")[1] for line in table] == ["much", "little", "open", "better"]
    assert table[0] == (
        "| **❌ worse** | `much` | 0.5500 → 0.5000 | -10.0% [-13.0, -7.0] | `2%` | sure: all of "
        "the interval is beyond the tolerance | `t` |"
    )
    assert Page(text).cells[:5] == [7] * 5


@pytest.mark.parametrize(
    ("state", "kind", "more", "words"),
    [
        ("REGRESSION", "score", WORSE, "all of the interval"),
        ("REGRESSION", "score", WORSE | {"interval": (-0.2, -0.01)}, "sure that it is worse"),
        ("REGRESSION", "score", WORSE | {"interval": (-0.2, 0.01)}, "19 in 20"),
        ("REGRESSION", "score", {"effect": -0.1, "n": 2}, "exact for these 2 prompts"),
        ("REGRESSION", "memory", {"effect": 0.5}, "memory peaks repeat"),
        ("REGRESSION", "latency", WORSE | {"reason": "slower (unconfirmed)"}, "machine may have"),
        ("INCONCLUSIVE", "score", {"n": 9}, "not sure: 9 values"),
    ],
)
def test_how_sure_in_plain_words(tested, measured, state, kind, more, words):
    entry = measured("m", state, **more) | {"kind": kind}
    (row,) = ranked([tested("a.py::t", "failed", entry)])
    assert words in sure(row)


def test_tests_of_the_same_videos_share_a_line(ran, tested, measured):
    tests = [tested(f"a.py::t{i}", "failed", measured("m", "REGRESSION", **WORSE)) for i in (1, 2)]
    for test in tests:
        test["workload"]["hash"] = "same"
    text = markdown(ran(1, *tests), HERE)
    assert text.count("**❌ worse**") == 1
    assert "| `t1` +1 |" in text
    assert "1 measurement got worse" in first(text)


def test_a_failed_test_tells_why_behind_a_line(ran, tested, measured):
    entry = measured("clip", "REGRESSION", **WORSE)
    entry["samples"].append({"prompt": "p1", "seed": 1, "value": 0.1})
    failure = {"text": "assert 1 < 0\n  measured 1", "file": "a.py", "line": 12}
    text = markdown(ran(1, tested("a.py::t", "failed", entry, failure=failure)), HERE)
    told = text.partition("<details><summary>❌ why <code>a.py::t</code></summary>")[2]
    assert "a.py:12: assert 1 < 0\n  measured 1\n" in told
    assert "REGRESSION clip: mean 0.3000, baseline 0.5500, -10.0% [-13.0, -7.0]" in told
    assert "worst sample: p1/1, 0.1000: a red fox" in told


def test_a_failed_test_has_the_command_that_runs_it_alone(ran, tested, measured):
    failed = tested("a.py::t[m-1]", "failed", measured("clip", "REGRESSION", **WORSE))
    run = ran(1, failed, flags=["--vdb-model=m", "--vdb-store=https://me:key@x/y"])
    assert "It alone:\n\n```text\npytest 'a.py::t[m-1]' --vdb-model=m" in markdown(run, HERE)
    assert "key" not in markdown(run, HERE)
    assert "It alone" not in markdown(ran(1, failed), HERE)  # an older run knows no flags


def test_edits_of_the_gate_are_not_folded_away(ran, tested, measured):
    edit = {"path": "baselines/a.json", "what": "baseline", "how": "changed", "restored": True}
    edits = {"ref": "origin/main", "commit": "1a2b3c4d5e", "edits": [edit | {"lines": []}]}
    run = ran(0, tested("a.py::t", "passed", measured("m", "PASS")), gate_edits=edits)
    before = markdown(run, HERE).partition("<details>")[0]
    assert "**This change edits its own gate.**" in before
    assert "baselines/a.json changed" in before


def test_a_link_is_the_ci_s_or_none(ran):
    assert "(<https://ci.example/runs/1>)" in markdown(ran(0), HERE)
    assert "](" not in markdown(ran(0), Context(Path(), "javascript:alert(1)"))
    assert "](" not in markdown(ran(0), Context(Path(), "https://a.b/>) <img src=x>"))


def test_what_a_fork_measured_is_called_a_claim(ran):
    assert "could have written any number" in markdown(ran(0), Context(Path(), claimed=True))


# ------------------------------------------------------------------------- what fits


def test_the_least_important_goes_first(ran, tested, measured):
    bad = measured("bad", "REGRESSION", **WORSE | {"reason": "because " * 20})
    tests = [
        tested(f"a.py::test_{i}", "failed", bad, *(measured(f"m{j}", "PASS") for j in range(29)))
        for i in range(150)
    ]
    run = ran(1, *tests)
    start = time.process_time()
    text = markdown(run, HERE)
    assert time.process_time() - start < 5
    assert 0.8 * LIMIT < len(text.encode()) <= LIMIT
    assert "150 measurements got worse" in first(text)
    assert text.count("**❌ worse**") == len([x for x in text.splitlines() if "| **❌" in x])
    assert "**❌ worse** | `bad` " in text
    assert "`m3`" not in text
    assert "lines of all measurements" in text.splitlines()[-1]
    assert Page(text).skeleton.count(("end", "details")) == text.count("<details>")


def test_bytes_are_counted_and_not_characters(ran, tested, measured):
    rows = [measured("狐" * 60, "REGRESSION", **WORSE | {"reason": "狐" * 300})] * 200
    tests = [tested(f"a.py::t{i}", "failed", row) for i, row in enumerate(rows)]
    assert len(markdown(ran(1, *tests), HERE).encode()) <= LIMIT


def test_nothing_is_said_to_be_cut_where_all_fits():
    sections = [Section(2, "rows", ["a", "b"], "head "), Section(1, "words", ["c"])]
    assert fitted(sections, 2000) == "head a\n\nb\n\nc"
    cut = fitted([Section(2, "rows", ["a" * 500] * 9), Section(1, "words", ["c"])], 1700)
    assert cut.endswith("<sub>Left out to fit: 7 of 9 rows.</sub>")


# ------------------------------------------------------------------------- what comes from others

NASTY = [
    *("@octocat", "org/repo#1", "#12", "fixes #3", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    *("<img src=x onerror=alert(1)>", "<script>", "</code></summary>", "</details>", "-->", "<!--"),
    *(MARK, "<!-- pytest-vdb-comment video-gate -->", "![x](http://x.y/z)", "[a](javascript:b)"),
    *("http://evil.example", "www.evil.example", "a@evil.example", "<http://x.y>", "&lt;b&gt;"),
    *(
        "|",
        "\\|",
        "\\",
        "`",
        "``",
        "```\n",
        "~~~\n",
        "\n\n",
        "\r",
        "\t",
        "\n| a | b |",
        "$x$",
        "{{x}}",
    ),
    *(
        "\x1b[31m",
        "\u202e",
        "\x00",
        "\ud800",
        "\u2028",
        "# h",
        "* a",
        "> q",
        "::error::x",
        ":smile:",
    ),
]
HOSTILE = st.lists(st.sampled_from(NASTY) | st.text(max_size=8), max_size=5).map("".join)


def page_of(ran, tested, measured, name: str, free: str) -> str:
    """A run that has ``name`` wherever a name may stand and ``free`` wherever a text may."""
    rows = [
        measured(f"x{name}", "REGRESSION", **WORSE | {"tolerance": f"2%{name}", "reason": free}),
        measured("open", "NO_BASELINE", **FAILS | {"reason": f"x{free}"}),
        measured("new", "NEW", accepted=f"x{free}"),
    ]
    rows[0]["samples"].append({"prompt": f"x{name}", "seed": 1, "value": 0.1})
    failure = {"text": f"x{free}", "file": f"x{name}", "line": 1}
    bad = tested(f"a.py::x{name}", "failed", *rows, failure=failure)
    bad["workload"]["prompts"] = [{"id": f"x{name}", "text": free}]
    bad["model"]["name"] = f"x{name}"
    text = {"first": True, "summary": "changed", "text": f"x{free}", "quality": "neutral"}
    good = tested(f"x{name}.py::t", "passed", attribution=text, overruled=[f"x{name}"])
    edit = {"path": f"x{name}", "what": "benchmark", "how": "changed", "restored": False}
    edits = {"ref": f"x{name}", "commit": f"x{name}", "edits": [edit | {"lines": [f"x{free}"]}]}
    flags = [f"--vdb-model=x{name}", f"--vdb-set=x={free}"]
    run = ran(1, bad, good, gate_edits=edits, commit=f"x{name}", flags=flags)
    run["environment"]["facts"] = {f"x{name}": free}
    return markdown(run, Context(Path("/repo"), trouble=(f"x{free}",), notes=(f"x{free}",)))


@settings(max_examples=40, deadline=None, database=None)
@given(name=HOSTILE, free=HOSTILE)
@example(name="`|<b>@octocat", free="\n```\n# x\n")
def test_foreign_text_is_code_and_nothing_else(ran, tested, measured, name, free):
    """Without its code, the rendered page is that of a run with harmless names: no tag, no link,
    no mention, no cell, no comment and no word more."""
    hostile = Page(page_of(ran, tested, measured, name, free))
    assert hostile.skeleton == Page(page_of(ran, tested, measured, "name", "free")).skeleton
    assert [one for one in hostile.skeleton if one[0] == "comment"] == [("comment", MARK[4:-3])]
    assert "@" not in hostile.text
