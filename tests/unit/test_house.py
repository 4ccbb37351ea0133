"""The house rules that import-linter cannot say, and what the distribution must carry."""

import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import grimp
import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
PACKAGES = ("restante", "runtime", "broker", "auth_service", "store_worker", "client_cli")
SHELLS = {"broker.service", "broker.settings", "broker.__main__"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """pyproject.toml, parsed."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Who imports whom, the standard library and other packages included."""
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def modules_of(graph: grimp.ImportGraph, package: str) -> set[str]:
    return {package} | graph.find_descendants(package)


def test_everything_in_the_broker_but_its_shell_is_pure(graph: grimp.ImportGraph, project: dict[str, Any]) -> None:
    contracts = project["tool"]["importlinter"]["contracts"]
    impure = next(c for c in contracts if c["id"] == "pure")["forbidden_modules"]
    chains = [
        " → ".join(chain)
        for module in sorted(modules_of(graph, "broker") - SHELLS)
        for name in impure
        if name in graph.modules and (chain := graph.find_shortest_chain(module, name))
    ]
    assert chains == []


def test_the_services_know_nothing_of_restante_but_the_wire(graph: grimp.ImportGraph) -> None:
    strays = [
        f"{module} → {imported}"
        for package in ("runtime", "broker", "auth_service", "store_worker")
        for module in sorted(modules_of(graph, package))
        for imported in sorted(graph.find_modules_directly_imported_by(module))
        if re.match(r"restante(\.(?!wire(\.|$))|$)", imported)
    ]
    assert strays == []


def test_the_graph_sees_the_standard_library(graph: grimp.ImportGraph) -> None:
    """Else the purity checks, here and in import-linter, would pass whatever a core imports."""
    assert "zmq" in graph.modules
    assert "os" in graph.modules


def test_the_wheel_carries_the_six_packages_typed_and_nothing_else(tmp_path: Path) -> None:
    (artifact,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path))
    with zipfile.ZipFile(artifact) as wheel:
        names = set(wheel.namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


@pytest.mark.parametrize("lock", ["runtime.txt", "dev.txt", "bench.txt"])
def test_every_requirement_is_pinned_with_hashes_and_from_no_given_place(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE), "an option, where only requirements belong"
    requirements = re.split(r"\n(?=\w)", text)
    for requirement in requirements:
        assert re.match(r"[\w.-]+==\S+", requirement), requirement
        assert "--hash=sha256:" in requirement, requirement


def test_the_locks_cover_what_pyproject_asks_for(project: dict[str, Any]) -> None:
    def pinned(lock: str) -> set[str]:
        text = (ROOT / "requirements" / lock).read_text("utf-8")
        return set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))

    def asked(requirements: list[str]) -> set[str]:
        return {re.split(r"[<>=~!;\[ ]", requirement)[0] for requirement in requirements}

    runtime = asked(project["project"]["dependencies"])
    dev = asked(project["project"]["optional-dependencies"]["dev"])
    bench = asked(project["project"]["optional-dependencies"]["bench"])
    assert runtime <= pinned("runtime.txt")
    assert runtime | dev <= pinned("dev.txt")
    assert pinned("runtime.txt") <= pinned("dev.txt")
    assert runtime | bench <= pinned("bench.txt")


def test_the_wheel_is_told_of_the_same_packages_as_the_linter(project: dict[str, Any]) -> None:
    tool = project["tool"]
    assert tuple(tool["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES
    assert tuple(tool["importlinter"]["root_packages"]) == PACKAGES
    assert set(PACKAGES) <= set(tool["mypy"]["files"])
