"""The digest of the code: changed by what changes results, and by nothing else."""

import ast
import re
import shutil
from functools import cache
from pathlib import Path

import pytest

from scangan import code_digest as module
from scangan.code_digest import LEFT_OUT, modules_of, script_digest
from scangan.ingest.readers import READERS
from scangan.phantoms import module_of

ROOT = Path(__file__).parents[2]
SOURCE, SCRIPTS = ROOT / "src", ROOT / "workflow/scripts"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the source that may be edited."""
    shutil.copytree(SOURCE / "scangan", tmp_path / "scangan", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE_ROOT", tmp_path)
    monkeypatch.setattr(module._Code, "read", staticmethod(read_again))
    return tmp_path / "scangan"


@cache
def parsed(text, name, data_files):
    """A file's code: parsed once for all tests that leave it, and the data files beside it, as they are."""
    return module._Code(text, name, data_files[0][0].parent if data_files else Path("nowhere"))


SEEN = {}


def read_again(path, name):
    """As the digest reads a file, but anew for each look at all scripts."""
    if path not in SEEN:
        SEEN[path] = read_now(path, name)
    return SEEN[path]


def read_now(path, name):
    data_files = tuple((file, file.read_bytes()) for file in sorted(path.parent.glob("*.[yh][at]ml")))
    return parsed(path.read_text(), name, data_files)


@cache
def modules():
    names = (path.relative_to(SOURCE).with_suffix("").as_posix() for path in SOURCE.rglob("scangan/**/*.py"))
    return sorted(name.replace("/", ".").removesuffix(".__init__") for name in names)


def scripts():
    return sorted(SCRIPTS.glob("*.py"))


def digests():
    SEEN.clear()
    return {script.stem: script_digest(script) for script in scripts()}


def changed_by(change):
    """The scripts whose digest a change of the package changes."""
    before = digests()
    change()
    return {name for name, digest in digests().items() if digest != before[name]}


def is_left_out(name):
    return any(name == one or (one != "scangan" and name.startswith(f"{one}.")) for one in LEFT_OUT)


@cache
def direct_imports(path):
    """What a file imports from the package when it runs, read independently of the code that is tested."""
    tree = ast.parse(path.read_text())
    for_types = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    known, found = set(modules()), set()
    for node in ast.walk(tree):
        if node not in for_types and isinstance(node, ast.Import | ast.ImportFrom):
            prefix = [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in (alias.name for alias in node.names):
                found |= {".".join(prefix), ".".join([*prefix, name])} & known
    packages = {name.rpartition(".")[0] for name in found} & known
    return {name for name in found | packages if not is_left_out(name)}


def file_of(name):
    stem = SOURCE.joinpath(*name.split("."))
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


@cache
def runs(script):
    """All modules that a script imports, directly or not."""
    found, waiting = set(), set(direct_imports(script))
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= direct_imports(file_of(name)) - found
    return found


def edit(file, old, new):
    text = file.read_text()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
    file.write_text(text.replace(old, new))


def test_every_script_follows_its_own_imports():
    for script in scripts():
        assert set(modules_of(script)) == runs(script), script.stem


@pytest.mark.parametrize("name", modules())
def test_a_constant_in_any_module_changes_just_the_scripts_that_run_it(package, name):
    def add_a_constant():
        file = package.parent / file_of(name).relative_to(SOURCE)
        file.write_text(file.read_text() + "\nA_NEW_CONSTANT = 1\n")

    assert changed_by(add_a_constant) == {script.stem for script in scripts() if name in runs(script)}


def test_only_what_cannot_change_bytes_is_run_by_no_script():
    # Networks, readers and phantoms are found by name, and told to the digest by the workflow.
    run = {name for script in scripts() for name in runs(script)}
    waiting = {reader.module for reader in READERS.values()}
    waiting |= {module_of(renderer) for renderer in ("head_ct", "chest", "covid_ct", "brain_mr")}
    while waiting:
        run |= (found := waiting)
        waiting = {name for one in found for name in direct_imports(file_of(one))} - run
    never = {name for name in modules() if name not in run and not is_left_out(name)}
    by_people = ("scangan.__main__", "scangan.check", "scangan.forecast", "scangan.plan")
    assert {name for name in never if not name.startswith(("scangan.models.", *by_people))} <= {
        "scangan.code_digest",
        "scangan.compat_compiler",
        "scangan.ingest.foresight",
        "scangan.memory",
        "scangan.locks",
        "scangan.seals",
        "scangan.synthesis.network",  # what people run
    }


def test_a_module_by_name_is_followed():
    script = SCRIPTS / "train_gan.py"
    assert script_digest(script, ["scangan.models.dcgan32"]) != script_digest(script, ["scangan.models.pggan"])
    assert "scangan.models.dcgan32" in modules_of(script, ["scangan.models.dcgan32"])
    assert re.fullmatch(r"[0-9a-f]{16}", script_digest(script))


@pytest.mark.parametrize("name", ["scangan.data.stroe", "scangan.datta.store"])
def test_a_module_that_is_none_is_named(name):
    with pytest.raises(ModuleNotFoundError, match=f"found '{name}', allowed: a module of the package"):
        script_digest(SCRIPTS / "score.py", [name])


def test_the_script_itself_counts_but_for_its_comments(tmp_path):
    script = tmp_path / "score.py"
    script.write_text("from scangan.jobs import job\n\nprint(1)\n")
    first = script_digest(script)
    module._Code.read.cache_clear()
    script.write_text('"""What it does."""\n\nfrom scangan.jobs import job\n\n# Why.\nprint(1)\n')
    assert script_digest(script) == first
    module._Code.read.cache_clear()
    script.write_text("from scangan.jobs import job\n\nprint(2)\n")
    assert script_digest(script) != first


def test_what_is_kept_of_a_file_is_what_parsing_it_tells(tmp_path, monkeypatch):
    kept = tmp_path / "__pycache__/score.json"
    text = "from scangan.jobs import job\n\nprint('papers.yaml')\n"
    parsed = module._essence(text, "")
    assert parsed["imports"] == ["scangan.jobs", "scangan.jobs.job"]
    assert parsed["data_files"] == ["papers.yaml"]
    assert module._kept_essence(kept, text, "") == parsed
    written = kept.read_text()
    monkeypatch.setattr(module, "_essence", lambda text, name: pytest.fail("parsed again"))
    assert module._kept_essence(kept, text, "") == parsed
    # Another text, a module of other rules, other rules, a damaged file: parsed again.
    for damage in (lambda: None, lambda: kept.write_text(written[:50]), lambda: kept.write_text("[]")):
        damage()
        for other in ((text + "print(2)\n", ""), (text, "scangan.ct.volume")):
            with pytest.raises(pytest.fail.Exception, match="parsed again"):
                module._kept_essence(kept, *other)
    kept.write_text(written)
    monkeypatch.setattr(module, "_rules", lambda: "others")
    with pytest.raises(pytest.fail.Exception, match="parsed again"):
        module._kept_essence(kept, text, "")


def test_comments_and_whitespace_change_nothing(package):
    def rewrite():
        for file in package.rglob("*.py"):
            lines = [
                f"{line}\n\n" if line.startswith(("def ", "@")) else line for line in file.read_text().splitlines()
            ]
            file.write_text("# A comment.\n" + "\n".join(lines).replace("\n\n\n\n@", "\n@") + "\n# The end.\n\n\n")

    assert changed_by(rewrite) == set()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        # Docstrings: of a function, a class, a module, a method.
        ("training/losses.py", '"""Loss of D on logits', '"""In other words. Loss of D on logits'),
        ("training/ema.py", '"""A copy of `model` whose weights', '"""In other words. A copy of'),
        ("data/store.py", '"""Cohorts and synthetic sets', '"""In other words. Cohorts and synthetic sets'),
        ("data/store.py", '"""Add images, float', '"""In other words. Add images, float'),
        # What the log says, and an error that ends the job.
        ("training/supervised.py", "%s: resumed at step %d", "%s goes on at step %d"),
        ("data/store.py", "images: found {array.shape[0]}, allowed", "images: there are {array.shape[0]}, allowed"),
        ("models/catalogue.py", "config: image_size: found", "config: image_size: there is"),
    ],
)
def test_what_is_only_said_changes_nothing(package, file, old, new):
    assert changed_by(lambda: edit(package / file, old, new)) == set()


def test_an_error_that_a_reader_writes_down_counts(package):
    def reword():
        edit(package / "ingest/dicom.py", '"no DICOM header" if start', '"no header of DICOM" if start')

    assert {"index_scans", "ingest_scans"} <= changed_by(reword)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("training/losses.py", "return -fake.mean()", "return -2 * fake.mean()"),
        ("data/store.py", "manifest.to_parquet(rows, index=False)", "manifest.to_parquet(rows, index=True)"),
        ("training/checkpoint.py", "os.fsync(file.fileno())", "pass"),
        ("metrics/features.py", "from __future__ import annotations\n", "from __future__ import annotations\nX = 1\n"),
        ("compat.py", '"FRAGMENT"', '"DEF"'),
    ],
)
def test_a_line_changes_what_runs_it_and_nothing_else(package, file, old, new):
    name = "scangan." + file.removesuffix(".py").replace("/", ".")
    runners = {script.stem for script in scripts() if name in runs(script)}
    assert changed_by(lambda: edit(package / file, old, new)) == runners != set()


@pytest.mark.parametrize(
    ("file", "script"),
    [("report/papers.yaml", "compare_with_papers"), ("report/reading_room.html", "open_reading_room")],
)
def test_a_data_file_is_part_of_the_module_that_names_it(package, file, script):
    def grow():
        with (package / file).open("a") as data:
            data.write("\n")

    assert script in changed_by(grow)
