"""Who may import whom: the rooms of the package, read from the source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import pytest_vdb

ROOT = Path(pytest_vdb.__file__).parent
NAME = "pytest_vdb"

# A room is a folder of the package, or a module that lies directly in it. Rooms that are listed
# know only what stands beside them (and themselves), also inside functions.
NOUNS = {"noise", "records", "names", "errors", "units", "traces"}
KNOWS: dict[str, set[str]] = {
    "names": set(),
    "noise": {"records", "names"},
    "records": {"names"},
    "traces": {"errors"},
    "errors": set(),
    "units": set(),
    "hookspecs": set(),
    "scenes": set(),
    "environment": {"records", "names", "errors"},
    "prompts": {"records", "names", "errors"},
    "readers": NOUNS | {"gate"},
    "flags": {"readers"},
    "options": NOUNS | {"gate", "flags"},
    "marker": NOUNS | {"gate", "readers", "models"},
    "comparison": NOUNS,
    "statistic": NOUNS | {"comparison"},
    "sweeps": NOUNS | {"readers", "gate", "marker", "models"},
    "quantities": NOUNS | {"measure"},
    "gate": NOUNS,
    "gitrepo": {"errors"},
    "places": set(),
    "baseline": NOUNS | {"gitrepo", "places"},
    "models": NOUNS | {"prompts"},
    "parallel": NOUNS | {"baseline", "environment", "marker", "models", "options"},
    "measure": NOUNS | {"models", "parallel", "gitrepo"},
    "metrics": NOUNS | {"scenes"},
    "scorers": NOUNS | {"environment", "measure", "metrics", "parallel"},
    "trial": NOUNS
    | {"comparison", "gate", "measure", "metrics", "models", "parallel", "gitrepo", "places"},
    "bundle": NOUNS | {"baseline", "gate", "statistic"},
    "report": NOUNS | {"baseline", "flags", "places", "statistic"},
}
# These wire the rooms together and may know all of them; no room above may know one of these.
WIRING = {
    "plugin",
    "stash",
    "fixtures",
    "session",
    "checks",
    "standards",
    "trusted",
    "edits",
    "bench",
    "swapped",
    "progress",
    "beside",
    "expected",
    "explained",
    "shown",
    "reuse",
    "clustered",
    "sane",
    "performance",
    "view",
    "verdicts",
    "results",
    "fanout",
    "cli",
    "score_command",
    "push_command",
    "accept_command",
    "baseline_command",
    "calibrate_command",
    "doctor_command",
    "merge_command",
    "report_command",
    "bundle_command",
    "history_command",
    "keep",
    "replay",
    "failures",
    "hang",
    "sharded",
    "swept",
    "under_pytest",
    "",
}
# A reference video is written and read as any other clip, and metrics read the same files.
EXCEPTIONS = {
    ("baseline.media", "models.clips"),
    ("metrics.video", "models.clips"),
    ("report.films", "models.clips"),
}

HEAVY = {
    *("torch", "numpy", "diffusers", "transformers", "accelerate", "torchmetrics", "scipy"),
    *("av", "PIL", "rich", "safetensors", "ray"),
}
# Importing one of these imports nothing heavy, neither by itself nor through what it imports.
LIGHT = [
    *(
        "",
        "plugin",
        "fixtures",
        "readers",
        "flags",
        "options",
        "marker",
        "hookspecs",
        "session",
        "hang",
        "bench",
        "view",
        "verdicts",
        "expected",
        "explained",
        "traces",
    ),
    *(
        "results",
        "records",
        "names",
        "errors",
        "units",
        "comparison",
        "statistic",
        "environment",
        "prompts",
        "scenes",
        "cli",
    ),
    *(
        "trial",
        "trial.base",
        "trial.interleave",
        "trial.calibrate",
        "calibrate_command",
        "doctor_command",
        "noise",
        "gate.auto",
        "gate.calibration",
        "baseline.calibration",
        "gate",
        "gate.policy",
        "gate.attribution",
        "baseline.identity",
        "baseline.schema",
        "baseline.store",
    ),
    *("gitrepo", "places", "standards", "trusted", "edits", "baseline.yardstick"),
    *("baseline.opening", "baseline.push", "baseline.ref", "baseline.remote"),
    *("baseline.accepted", "baseline.migrate", "baseline.prune", "baseline.run", "baseline.source"),
    *("baseline.shard", "parallel.shards", "sharded", "merge_command"),
    *("baseline.validate", "gate.acceptance", "accept_command", "baseline_command"),
    *("baseline.update", "models.registry", "models.catalog", "models.sources", "models.open"),
    *("models.families", "models.listing", "models.twins", "models.load_options"),
    *("models.cache", "performance", "quantities", "measure.carbon", "measure.energy"),
    *("clustered", "parallel.cluster", "parallel.ledger", "measure.cluster", "measure.ray_actor"),
    *("parallel.on_node", "measure.crew", "scorers", "scorers.fan", "scorers.on_node"),
    *("measure.runner", "measure.child", "measure.group", "parallel.lease", "fanout"),
    *("parallel.schedule", "parallel.durations", "parallel.capacity", "parallel.xdist"),
    *("reuse", "sane", "measure.shared", "measure.identity", "models.identity", "report.reused"),
    *("metrics", "metrics.registry", "metrics.builtin", "metrics.features", "metrics.weights"),
    *("metrics.scoring", "metrics.listing", "metrics.vbench", "score_command"),
    *(f"metrics.catalog.{name}" for name in ("reference", "consistency", "text", "imaging")),
    *(
        f"metrics.catalog.{name}"
        for name in ("overall", "cuts", "flow", "audio", "sets", "routing")
    ),
    *("report.rows", "report.terminal", "report.attribution", "report.proof", "trial.prove"),
    *("report.writers", "report.markdown", "report.gfm", "report.ranked", "report.github"),
    *("report.annotations", "report_command", "failures"),
    *("report.csv_table", "report.latex", "report.latex_sweeps", "report.tex"),
    *("report.openmetrics", "report.benchmark_json"),
    *("keep", "replay", "bundle_command", "bundle.archive", "bundle.compare", "bundle.contents"),
    *("history_command", "baseline.history", "report.changes"),
    *("swept", "sweeps", "sweeps.points", "sweeps.limits", "sweeps.levels", "sweeps.front"),
    *("sweeps.table", "report.sweeps"),
    *("trial.asserted", "trial.regenerate", "shown", "report.html", "report.overview"),
]


def source(module: str) -> Path:
    """The file of ``gate.rules``; of the package itself for an empty name."""
    path = ROOT.joinpath(*module.split(".")) if module else ROOT
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = sorted(module_of(path) for path in ROOT.rglob("*.py"))


def imports(tree: ast.AST, *, lazy: bool) -> Iterator[str]:
    """Absolute names that ``tree`` imports; ``lazy`` looks into functions as well."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: import by absolute name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, lazy=lazy)


@cache
def imported(module: str, *, lazy: bool) -> frozenset[str]:
    tree = ast.parse(source(module).read_text(encoding="utf-8"))
    return frozenset(imports(tree, lazy=lazy))


def ours(name: str) -> str | None:
    """``gate.rules`` of ``pytest_vdb.gate.rules.paired``; None for what is not ours."""
    package, *parts = name.split(".")
    if package != NAME:
        return None
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts)


@pytest.mark.parametrize("module", [m for m in MODULES if m.split(".")[0] not in WIRING])
def test_a_room_knows_only_its_neighbours(module: str) -> None:
    room = module.split(".")[0]
    assert room in KNOWS, f"{room} is a new room: say here what it may import"
    for name in imported(module, lazy=True):
        other = ours(name)
        if other is None or (module, other) in EXCEPTIONS:
            continue
        assert other.split(".")[0] in KNOWS[room] | {room}, f"{module} imports {name}"


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_nothing_heavy(module: str) -> None:
    if not source(module).exists():
        pytest.fail(f"{module} is in the list of light modules and not in the package")
    seen: dict[str, str] = {module: module}
    waiting = [module]
    while waiting:
        here = waiting.pop()
        for name in imported(here, lazy=False):
            heavy = name.split(".")[0] in HEAVY
            assert not heavy, f"{seen[here]} imports {name} when it is imported"
            other = ours(name)
            for one in [] if other is None else ancestors(other):
                if one not in seen:
                    seen[one] = f"{seen[here]} -> {one}"
                    waiting.append(one)


def ancestors(module: str) -> list[str]:
    """The packages that Python imports on the way to ``module``, and ``module``."""
    parts = module.split(".") if module else []
    return [".".join(parts[:n]) for n in range(len(parts) + 1)]


def test_the_table_tells_a_wrong_import() -> None:
    """The reader finds imports in functions, classes and branches, and skips those for types."""
    tree = ast.parse(
        "import a\nif TYPE_CHECKING:\n    import types_only\n"
        "def f():\n    from b.c import d\nclass C:\n    import e\n"
        "try:\n    import g\nexcept ImportError:\n    import h\n"
    )
    assert set(imports(tree, lazy=True)) == {"a", "b.c.d", "e", "g", "h"}
    assert set(imports(tree, lazy=False)) == {"a", "e", "g", "h"}
