"""The digest of the code: changed by what changes results, and by nothing else."""

import re
import shutil
from pathlib import Path

import pytest

from scangan import code_digest as module
from scangan.code_digest import LEFT_OUT, code_digest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"


def forget():
    for function in (module._tree, module._imports, module._digest):
        function.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the source that may be edited."""
    shutil.copytree(SOURCE / "scangan", tmp_path / "scangan", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE_ROOT", tmp_path)
    forget()
    yield tmp_path / "scangan"
    forget()


def modules():
    names = (path.relative_to(SOURCE).with_suffix("").as_posix() for path in SOURCE.rglob("scangan/**/*.py"))
    return sorted(name.replace("/", ".") for name in names if not name.endswith("__init__"))


def digests():
    forget()
    return {name: code_digest(name) for name in modules()}


def importers(changed):
    """All modules that import one, directly or not, found in their text."""
    text = {name: (SOURCE / (name.replace(".", "/") + ".py")).read_text() for name in modules()}
    found, before = {changed}, set()
    while found != before:
        before = set(found)
        for name, lines in text.items():
            for one in before - LEFT_OUT:
                package, _, last = one.rpartition(".")
                direct = rf"^\s*(from {re.escape(one)} import|import {re.escape(one)}\b)"
                by_name = rf"^\s*from {re.escape(package)} import .*\b{last}\b"
                if re.search(f"{direct}|{by_name}", lines, re.MULTILINE):
                    found.add(name)
    return found


def edit(file, old, new):
    text = file.read_text()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
    file.write_text(text.replace(old, new))


def test_comments_and_whitespace_change_nothing(package):
    before = digests()
    for file in package.rglob("*.py"):
        lines = [f"{line}\n\n" if line.startswith(("def ", "@")) else line for line in file.read_text().splitlines()]
        file.write_text("# A comment.\n" + "\n".join(lines).replace("\n\n\n\n@", "\n@") + "\n# The end.\n\n\n")
    assert digests() == before


@pytest.mark.parametrize(
    ("file", "old"),
    [
        ("training/losses.py", '"""Loss of D on logits'),  # a function's
        ("training/ema.py", '"""A copy of `model` whose weights'),  # a class's
        ("data/store.py", '"""Cohorts and synthetic sets'),  # a module's
        ("data/store.py", '"""Add images, float'),  # a method's
    ],
)
def test_docstrings_change_nothing(package, file, old):
    before = digests()
    edit(package / file, old, f'"""In other words. {old[3:]}')
    assert digests() == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("training/losses.py", "return -fake.mean()", "return -2 * fake.mean()"),
        ("data/store.py", "manifest.to_parquet(rows, index=False)", "manifest.to_parquet(rows, index=True)"),
        ("training/checkpoint.py", "os.fsync(file.fileno())", "pass"),
        ("models/dcgan32.py", "nn.Dropout(0.4)", "nn.Dropout(0.6)"),
        ("metrics/features.py", "from __future__ import annotations\n", "from __future__ import annotations\nX = 1\n"),
        ("compat.py", '"FRAGMENT"', '"DEF"'),
    ],
)
def test_code_changes_what_imports_it_and_nothing_else(package, file, old, new):
    before = digests()
    edit(package / file, old, new)
    after = digests()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == importers("scangan." + file.removesuffix(".py").replace("/", ".")) - LEFT_OUT


def test_a_loss_is_part_of_the_gans_training_and_not_of_the_data():
    training = {f"scangan.training.{name}" for name in ("losses", "adversarial", "nodules", "volumes")}
    assert importers("scangan.training.losses") == training


def test_what_is_left_out_changes_only_its_own(package):
    before = digests()
    for name in ("config", "errors", "jobs"):
        (package / f"{name}.py").write_text("changed = True\n")
    assert digests() == before


def test_several_modules_in_any_order():
    pair = ("scangan.data.store", "scangan.training.losses")
    assert code_digest(*pair) == code_digest(*reversed(pair))
    assert len({code_digest(*pair), code_digest(pair[0]), code_digest(pair[1])}) == 3
    assert re.fullmatch(r"[0-9a-f]{16}", code_digest(*pair))


@pytest.mark.parametrize("name", ["scangan.data.stroe", "scangan.datta.store"])
def test_a_module_that_is_none_is_named(name):
    with pytest.raises(ModuleNotFoundError, match=f"found '{name}', allowed: a module of the package"):
        code_digest(name)


def test_every_module_that_a_rule_names_is_there():
    text = "".join(file.read_text() for file in (ROOT / "workflow" / "rules").glob("*.smk"))
    calls = re.findall(r"code_(?:digest|of)\(([^)]*)\)", text)
    named = {name for call in calls for name in re.findall(r'[^f]"(scangan[\w.]+)"', f" {call}")}
    assert len(calls) >= 10
    assert len(named) >= 10
    for name in named:
        code_digest(name)


@pytest.mark.parametrize(
    ("file", "module"),
    [("report/papers.yaml", "report.paper_comparison"), ("report/reading_room.html", "report.reading_room")],
)
def test_a_data_file_is_part_of_the_module_that_names_it(package, file, module):
    before = digests()
    with (package / file).open("a") as data:
        data.write("\n")
    after = digests()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == importers(f"scangan.{module}") - LEFT_OUT
