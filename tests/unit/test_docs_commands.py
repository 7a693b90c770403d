"""What README.md and docs/ tell people to type is right: settings validate, commands have the options they name."""

from __future__ import annotations

import argparse
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml
from snakemake.cli import get_argument_parser

from scangan.config import Config, ImageStudy, VolumeStudy, load
from scangan.config.derived import overlay
from scangan.errors import ConfigError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:snakemake|python -m scangan|make) [^`]+)`")
OF_STUDIES = {*ImageStudy.model_fields, *VolumeStudy.model_fields}
# In place of what a reader has: a study of the README, and two of other kinds.
MINE = yaml.safe_load(
    next(text for kind, text in BLOCK.findall(PAGES[0].read_text()) if kind == "yaml" and "my_study" in text)
)


def blocks(kind):
    """Page and text of each fenced block."""
    for page in PAGES:
        for found, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if found == kind:
                yield pytest.param(text, id=f"{page.name}: {text.strip().splitlines()[0][:40]}")


@cache
def base():
    return overlay(yaml.safe_load((ROOT / "config/config.yaml").read_text()), MINE)


@pytest.fixture(autouse=True)
def _a_folder_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def bring(value, key=""):
    """Make the folders and files that settings name and a reader has."""
    if isinstance(value, dict):
        for name, each in value.items():
            bring(each, "root" if key == "data_roots" else name)
    elif isinstance(value, list):
        for each in value:
            bring(each, key)
    elif isinstance(value, str) and key == "root" and "/" in value:
        Path(value).mkdir(parents=True, exist_ok=True)
    elif isinstance(value, str) and re.fullmatch(r"[\w./-]+\.\w+", value):
        Path(value).parent.mkdir(parents=True, exist_ok=True)
        Path(value).write_text("there")


def problem(settings):
    """What is wrong with settings laid over the default and the README's own study, or nothing."""
    together = overlay(base(), settings)
    bring(together)
    try:
        load(together)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("text", list(blocks("yaml")))
def test_settings_validate(text):
    settings = yaml.safe_load(text)
    if set(settings) <= set(Config.model_fields):
        assert problem(settings) == ""
        return
    # Lines of a study: some study can have them.
    assert set(settings) <= OF_STUDIES, "allowed: lines of a configuration, or of a study"
    found = {study: problem({"studies": {study: settings}}) for study in base()["studies"]}
    assert "" in found.values(), found


def commands():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for _, block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
        for command in dict.fromkeys([*lines, *INLINE.findall(text)]):
            command = " ".join(command.removeprefix("$ ").split())
            if re.match(r"(snakemake|python -m scangan|make) ", command):
                yield pytest.param(command, id=f"{page.name}: {command[:60]}")


def words_of(command):
    """Without what a page leaves out (`...`), and without its comment."""
    return [word for word in shlex.split(command, comments=True) if word != "..."]


@pytest.mark.parametrize("command", list(commands()))
def test_a_command_has_what_it_names(command, monkeypatch):
    program, *words = words_of(command)
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[0] in targets
        return
    if program == "python":
        parse_ours(words[2:], monkeypatch)
        return
    if words[-1:] == ["--config"]:
        words.pop()
    asked = get_argument_parser([]).parse_args(words)
    for file in asked.configfile or ():
        assert not str(file).startswith(("config/", "tests/")) or (ROOT / file).is_file(), file
    for profile in asked.profile or ():
        assert (ROOT / profile / "config.yaml").is_file() or "my-" in profile
    settings = {key: yaml.safe_load(value) for key, value in (each.split("=", 1) for each in asked.config or ())}
    assert problem(settings) == "" or asked.configfile, problem(settings)
    named = (yaml.safe_load(each.values[0]) for each in blocks("yaml"))
    studies = {*base()["studies"], *(study for each in named for study in each.get("studies", ()))}
    for target in asked.targets:
        study = target.removeprefix("results/").split("/")[0]
        assert study in studies or target in ("all", "results/index.html") or "." in study, f"no such study: {study}"


def parse_ours(words, monkeypatch):
    """By the command's own parser, which ends the test where it refuses."""
    from scangan.__main__ import COMMANDS, import_module

    module = import_module(COMMANDS[words[0]])
    parsed = []

    class Parsed(Exception):
        """Instead of doing it."""

    def stop(self, *arguments, **options):
        parsed.append(original(self, words[1:]))
        raise Parsed

    original = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(Parsed):
        module.main()
    assert parsed


def test_enough_was_looked_at():
    assert len(list(commands())) > 20
    assert len(list(blocks("yaml"))) > 8


def test_make_run_takes_a_study_and_its_options():
    (line,) = re.findall(r"snakemake (.*) \$\(ARGS\)", (ROOT / "Makefile").read_text())
    asked = get_argument_parser([]).parse_args([*line.split(), "my_study", "--configfile", "mine.yaml"])
    assert asked.targets == ["my_study"]
    assert asked.resources["gpu"].value == 1
