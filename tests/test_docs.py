"""What README.md, CONTRIBUTING.md and docs/ say, compared with the code."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import accelerate
from accelerate import contract, metadata
from accelerate.registry import backends
from accelerate.reports import Availability, Device, Match, RuntimeInfo
from accelerate.testing import ROLES, Case

OPTIONS, CONTRIBUTING = ROOT / "docs" / "options.md", ROOT / "CONTRIBUTING.md"
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *(ROOT / folder / "README.md" for folder in ("tests", "benchmarks")),
]


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading of docs/options.md, without the marks of code."""
    (section,) = re.findall(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", OPTIONS.read_text("utf-8"), re.M | re.S)
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().replace("`", "") for cell in line[1:-1].split("|")] for line in lines]


def test_arguments_of_load() -> None:
    wanted = {
        name: "" if p.default is p.empty else repr(p.default).replace("'", '"')
        for name, p in inspect.signature(accelerate.load).parameters.items()
        if p.kind is not p.VAR_KEYWORD
    }
    assert {name: default for name, default, _ in rows("Arguments of `load`")} == wanted


def test_arguments_for_one_backend() -> None:
    own = {name: b for name, b in backends().items() if type(b).__module__.startswith("accelerate.backends.")}
    said = {
        (option, name) for option, names, _ in rows("Arguments of `load` for one backend") for name in names.split(", ")
    }
    assert said == {(option, name) for name, backend in own.items() for option in backend.options}


def test_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    click = pytest.importorskip("click", reason="needs the extra: cli")
    pytest.importorskip("rich", reason="needs the extra: cli")
    from accelerate.cli import main
    from accelerate.cli.bench import compare
    from accelerate.cli.commands import Commands

    groups: list[Any] = []

    def keep(group: Any, **_: object) -> int:
        groups.append(group)
        return 0

    monkeypatch.setattr(Commands, "main", keep)
    assert main() == 0

    def options_of(name: str, command: Any) -> Iterator[tuple[str, str, str]]:
        context = click.Context(command)
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                yield name, parameter.name.removesuffix("_path").upper(), ""
            else:
                shown = parameter.show_default
                yield name, parameter.opts[0], str(parameter.default) if shown else ""
        for sub in command.list_commands(context) if isinstance(command, click.Group) else ():
            yield from options_of(sub if command is groups[0] else f"{name} {sub}", command.get_command(context, sub))

    wanted = {*options_of("edge-accelerate", groups[0]), *options_of("bench compare", compare), *pytests_options()}
    assert {tuple(row[:3]) for row in rows("Commands")} == wanted


def pytests_options() -> Iterator[tuple[str, str, str]]:
    for option in re.findall(r'"(--benchmark[a-z-]*)"', (ROOT / "edge_accelerate_pytest.py").read_text("utf-8")):
        yield "pytest", option, ""


def test_environment_variables() -> None:
    product = [*code("accelerate"), *code("backends"), *ROOT.glob("*.py")]
    others = [*code("tests"), *code("benchmarks"), *code("tools"), ROOT / "Makefile"]
    said = {name: by for name, by, _ in rows("Environment variables")}
    assert said.keys() == variables([*product, *others]), "each has a row, and each row is read somewhere"
    assert {name for name, by in said.items() if by == "the package"} == variables(product)


def code(folder: str) -> list[Path]:
    return [path for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)]


def variables(files: list[Path]) -> set[str]:
    return {name for path in files for name in re.findall(r"EDGE_ACCELERATE_[A-Z_]+", path.read_text("utf-8"))}


def test_all_that_a_backend_imports_and_overrides_is_explained() -> None:
    page = re.sub(r"```.*?```", "", (ROOT / "docs" / "writing-a-backend.md").read_text("utf-8"), flags=re.S)
    members = [name for name in vars(contract.Backend) if not name.startswith("_")]
    named = {*re.findall(r"\w+", " ".join(re.findall(r"`[^`]+`", page)))}
    assert {*contract.__all__, *members} <= named


def test_the_records_and_roles_of_a_backend_are_as_its_page_says() -> None:
    page = " ".join((ROOT / "docs" / "writing-a-backend.md").read_text("utf-8").split())
    of_metadata = (metadata.TensorInfo, metadata.Quantization, metadata.Normalization, metadata.Metadata)
    for record in (*of_metadata, Match, Availability, Device, RuntimeInfo, Case):
        assert f"`{record.__name__}({', '.join(map(_argument, dataclasses.fields(record)))})`" in page
    assert all(f'| "{role}" | {what} |' in page for role, what in ROLES.items())


def _argument(field: Any) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f"{field.name}={field.default_factory()!r}"
    return str(field.name) if field.default is dataclasses.MISSING else f"{field.name}={field.default!r}"


def test_the_map_of_the_code_is_complete() -> None:
    (drawn,) = re.findall(r"^## Where things are\n\n```\n(.*?)^```$", CONTRIBUTING.read_text("utf-8"), re.M | re.S)
    named, folder = set[str](), ""
    for indent, name in re.findall(r"^( *)(\S+)", drawn, re.M):
        folder = folder if indent else name
        named.add(f"{folder}{name}" if indent else name)
    for room in ("accelerate/", "backends/"):
        there = {_on_the_map(path) for path in (ROOT / room).iterdir()} - {"", "backends/", "__pycache__/"}
        assert {name.removeprefix(room) for name in named if name.startswith(room)} - {""} == there
    assert not [name for name in named if not ((ROOT / name).exists() or (ROOT / f"{name}.py").exists())]


def test_every_test_file_is_listed() -> None:
    patterns = re.findall(r"`([\w*.]+)`", (ROOT / "tests" / "README.md").read_text("utf-8"))
    assert not [
        path.name
        for path in (ROOT / "tests").glob("test_*.py")
        if not any(fnmatch(path.name, pattern) for pattern in patterns)
    ]


def _on_the_map(path: Path) -> str:
    if path.is_dir():
        return f"{path.name}/"
    return path.stem if path.suffix == ".py" and path.name != "__init__.py" else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert "://" in target or (page.parent / target).exists(), target
