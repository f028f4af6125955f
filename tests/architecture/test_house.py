import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLANES = ("data_contracts", "spark_jobs", "training", "serving", "dagster_project")
GRAB_BAGS = {"utils", "util", "common", "helpers", "helper", "misc", "shared", "scripts", "src"}
HEAVY = {
    "dagster",
    "deltalake",
    "evidently",
    "fastapi",
    "feast",
    "great_expectations",
    "mlflow",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "pyspark",
    "pytorch_lightning",
    "ray",
    "torch",
}
ONE_FILE_EACH = (
    "evidently",
    "feast",
    "great_expectations",
    "mlflow",
    "onnxruntime",
    "opentelemetry",
    "prometheus_client",
)


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (ROOT / folder).rglob("*.py")


def test_the_top_level_folders_are_the_planes_and_the_tests() -> None:
    generated = (ROOT / ".gitignore").read_text().split()
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    named = {name for name in folders if not any(fnmatch(f"{name}/", mark) for mark in generated)}
    assert {*PLANES, "tests"} == {name for name in named if not name.startswith(".")}


def test_no_file_is_longer_than_350_lines() -> None:
    sizes = {p: len(p.read_text().splitlines()) for p in sources(*PLANES, "tests")}
    assert {} == {str(path.relative_to(ROOT)): n for path, n in sizes.items() if n > 350}


def test_no_module_or_folder_is_a_grab_bag() -> None:
    paths = [path.relative_to(ROOT) for path in sources(*PLANES, "tests")]
    names = {(str(p), part) for p in paths for part in (*p.parts[:-1], p.stem)}
    assert set() == {(path, part) for path, part in names if part in GRAB_BAGS}


def test_nothing_is_left_to_do() -> None:
    mark = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")
    left = [path for path in sources(*PLANES, "tests") if mark.search(path.read_text())]
    assert [] == left


def test_package_markers_are_empty() -> None:
    full = [p for p in sources(*PLANES, "tests") if p.name == "__init__.py" and p.stat().st_size]
    assert [] == full


def test_every_public_name_of_the_contracts_has_a_docstring() -> None:
    bare: list[str] = []
    for path in sources("data_contracts"):
        tree = ast.parse(path.read_text())
        if tree.body and not ast.get_docstring(tree):
            bare.append(str(path))
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                bare.append(f"{path}: {node.name}")
    assert [] == bare


def code_lines(text: str) -> int:
    """How many lines hold code: not blank, no comment, no docstring."""
    told = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    space = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    held = {
        line
        for token in tokens
        if token.type not in {*space, tokenize.ENDMARKER}
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(held - told)


def test_the_oracle_is_short_and_shares_only_the_declaration() -> None:
    text = (ROOT / "data_contracts" / "oracle.py").read_text()
    assert code_lines(text) < 150
    nodes = list(ast.walk(ast.parse(text)))
    asked = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    of_engines = {"epoch", "hop", "level", "tiles", "bounds", "tile_start", "parts", "source"}
    assert set() == asked & {*of_engines, "finalize", "lift", "accumulators", "entries"}
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    ours = {str(name).removeprefix("data_contracts.") for name in modules if "data_c" in str(name)}
    assert {"data_contracts", "derived", "features", "oracle_sketches", "windows"} == ours


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
    return found


def test_evidence_and_gates_need_numpy_alone_and_the_sequences_are_short() -> None:
    judges = "evidence delong ranking off_policy sequences splits judging gate_rules gates release"
    folder = ROOT / "data_contracts"
    needed = {name for each in judges.split() for name in imported(folder / f"{each}.py")}
    assert {"numpy"} == needed - {*sys.stdlib_module_names, "data_contracts"}
    texts = ((folder / f"{name}.py").read_text() for name in ("sequences", "splits"))
    assert sum(map(code_lines, texts)) < 200


@pytest.mark.parametrize("plane", PLANES)
def test_a_library_is_known_to_one_file_of_a_plane(plane: str) -> None:
    users = {
        library: [p.name for p in sources(plane) if library in imported(p)]
        for library in ONE_FILE_EACH
    }
    assert {} == {library: files for library, files in users.items() if len(files) > 1}


def test_no_test_sleeps() -> None:
    asleep = re.compile(r"\b(time|asyncio)\.sleep\(|from time import .*\bsleep\b")
    assert [] == [path for path in sources("tests") if asleep.search(path.read_text())]


def test_loading_a_use_case_loads_nothing_heavy() -> None:
    program = (
        "import sys, data_contracts.use_case as u; u.load_use_case('clicks');"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set() == HEAVY & set(told.stdout.split())
