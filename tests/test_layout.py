"""The layout: which package may import which, and nothing in a circle."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

import xfer

Graph = Mapping[str, frozenset[str]]
"""By the name of a module, without `xfer.`: what it imports, wherever in it, for types too."""

PACKAGE: Final = Path(xfer.__file__).parent
ROOT_MODULES: Final = ("errors", "names", "outcomes", "digests", "logs")
"""Anybody may import these; of each other, they import what stands before them."""
ALLOWED: Final = {
    "system": (),
    "config": (),
    "wire": ("system",),
    "storage": ("system",),
    "source": ("storage.reading",),
    "auth": ("wire", "config", "system", "storage.contract"),
    "sending": ("wire", "source", "system", "storage.reading"),
    "receiving": (
        "wire",
        "system",
        "storage.contract",
        "storage.reading",
        "storage.recording",
        "storage.os_errors",
    ),
    "client": (
        *("sending", "receiving", "auth", "wire", "source", "config", "system"),
        *("storage.contract", "storage.reading", "storage.stream"),
    ),
    "server": ("receiving", "sending", "auth", "wire", "storage", "config", "system"),
    "daemon": ("server", "auth", "config", "storage.local.layout"),
}
"""What a package may import, beside itself and the root modules; cli/ may import all."""
FORBIDDEN: Final = (
    ("storage.posix", "storage.local"),
    ("storage.posix", "storage.snapshots"),
    ("storage.snapshots", "storage.local"),
    ("cli", "cli.app"),
)
"""Parts of one package of which the first does not know the second."""
BUILDS_A_STORE: Final = ("server.receiver", "client.get")
"""Outside storage/, only these import a kind of store: all others know the contract."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


FILES: Final = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES: Final = sorted(set(FILES) - {"__init__", "__main__"})


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "xfer":
            home = (node.module or "").removeprefix("xfer").removeprefix(".")
            for alias in node.names:
                inner = f"{home}.{alias.name}".removeprefix(".")
                yield inner if inner in FILES else home
        elif isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix("xfer.")
                for alias in node.names
                if alias.name.startswith("xfer.")
            )


@pytest.fixture(scope="module")
def graph() -> Graph:
    return {name: frozenset(filter(None, imports_of(FILES[name]))) for name in MODULES}


def is_in(module: str, part: str) -> bool:
    return module == part or module.startswith(f"{part}.")


def is_allowed(module: str, imported: str) -> bool:
    package = module.partition(".")[0]
    if package in ROOT_MODULES:
        return imported in ROOT_MODULES[: ROOT_MODULES.index(package)]
    if any(is_in(module, one) and is_in(imported, other) for one, other in FORBIDDEN):
        return False
    if package == "cli":
        return True
    is_kind_of_store = is_in(imported, "storage.local") and imported not in ALLOWED[package]
    if is_kind_of_store and package != "storage":
        return module in BUILDS_A_STORE
    return any(is_in(imported, part) for part in (package, *ROOT_MODULES, *ALLOWED[package]))


def violations(graph: Graph) -> list[str]:
    return [
        f"{module} imports {imported}"
        for module, imports in graph.items()
        for imported in sorted(imports)
        if not is_allowed(module, imported)
    ]


def circle_in(graph: Graph) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_package_imports_what_its_row_does_not_allow(graph: Graph) -> None:
    assert violations(graph) == []


def test_nothing_is_imported_in_a_circle(graph: Graph) -> None:
    assert circle_in(graph) == []


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("storage.quota", "wire.channel"),
        ("storage.contract", "receiving.session"),
        ("storage.posix.links", "storage.local.layout"),
        ("storage.snapshots.lines", "storage.local.store"),
        ("receiving.session", "sending.session"),
        ("receiving.session", "storage.local.store"),
        ("server.connection", "client.connect"),
        ("server.listen", "storage.local.store"),
        ("daemon.workers", "storage.local.store"),
        ("wire.channel", "config.defaults"),
        ("cli.commands.send", "cli.app"),
        ("errors", "names"),
        ("names", "system.stop"),
    ],
)
def test_what_a_row_does_not_allow_is_found(graph: Graph, module: str, imported: str) -> None:
    planted = {**graph, module: graph.get(module, frozenset()) | {imported}}
    assert violations(planted) == [f"{module} imports {imported}"]


def test_a_circle_is_found(graph: Graph) -> None:
    planted = {**graph, "names": graph["names"] | {"logs"}}
    assert {"names", "logs"} <= set(circle_in(planted))


def test_each_package_has_a_row() -> None:
    assert {name.partition(".")[0] for name in MODULES} == {*ALLOWED, *ROOT_MODULES, "cli"}


@pytest.mark.parametrize(
    "path",
    [path for path in FILES.values() if path.name == "__init__.py" and path.parent != PACKAGE],
    ids=name_of,
)
def test_a_package_holds_a_docstring_only(path: Path) -> None:
    """A start costs no more for it. The messages, which belong together, are one exception."""
    *_, last = ast.parse(path.read_text()).body
    assert isinstance(last, ast.Expr) or name_of(path) == "wire.messages"
