"""
Reads the documents of a project from a file, a directory or stdin, and the files that they name.

It never reads values: `sops.py` and `secret_access_keys.py` do, when they are needed.
"""

import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from phasesync.adapters.project_files.yaml import read_yaml
from phasesync.core.project.desired import DesiredProject
from phasesync.core.project.expand import expand
from phasesync.core.project.nodes import Document, Node, Place
from phasesync.errors import DocumentError, InvalidInputError

MAX_BYTES: Final = 8 * 1_048_576
"""Of one file: some 10,000 syncs."""
MAX_NAMED_BYTES: Final = 1_048_576
"""Of a file that a document names, such as a policy."""
SUFFIXES: Final = (".yaml", ".yml", ".json")
STDIN: Final = "-"
"""Stands for stdin. Messages call it <stdin>."""


def read_projects(sources: Iterable[str], *, stdin: BinaryIO | None = None) -> tuple[DesiredProject, ...]:
    """
    Return the projects of files, directories and stdin, checked and expanded.

    Raises:
        DocumentError: something in them is wrong.
        InvalidInputError: one of them cannot be read.
    """
    return expand(read_documents(sources, stdin=stdin), read_text=read_named)


def read_documents(sources: Iterable[str], *, stdin: BinaryIO | None = None) -> list[Document]:
    """
    Return the documents of files, directories and stdin, in their order.

    Args:
        sources: paths of files and directories; `-` is stdin. Of a directory every *.yaml, *.yml and *.json below it
            is read, sorted by path, without hidden ones, those of sops, and those that a document of it names (`file`).
        stdin: to read `-` from; None means that of the process.

    Raises:
        DocumentError: something is not YAML.
        InvalidInputError: one of them cannot be read, or a directory has no document.
    """
    documents: list[Document] = []
    for source in sources:
        if source == STDIN:
            data = _read_stdin(stdin)
            documents += _documents(_bounded(data, "<stdin>"), "<stdin>", Path())
        elif Path(source).is_dir():
            documents += _of_directory(Path(source))
        else:
            documents += _of_file(Path(source))
    return documents


def _read_stdin(stdin: BinaryIO | None) -> bytes:
    try:
        return (stdin or sys.stdin.buffer).read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInputError(f"stdin cannot be read: {error.strerror}", hint="name a file in place of -") from None


def read_named(path: str) -> str:
    """Return the text of a file that a document names. InvalidInputError."""
    try:
        return _read(Path(path), MAX_NAMED_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"the file is not UTF-8 text (byte {error.start})") from None


def _of_file(path: Path) -> list[Document]:
    return _documents(_read(path, MAX_BYTES, name=str(path)), str(path), path.parent)


def _of_directory(folder: Path) -> list[Document]:
    files = sorted(_files_below(folder))
    if not files:
        raise InvalidInputError(
            f"{folder} has no document: no file that ends in {', '.join(SUFFIXES)}",
            hint="name the directory that has them; hidden files and directories are not read",
        )
    read: dict[Path, list[Document]] = {}
    failed: dict[Path, DocumentError] = {}
    named: set[Path] = set()
    for path in files:
        try:
            read[path] = _of_file(path)
        except DocumentError as error:
            failed[path] = error
            continue
        for document in read[path]:
            named |= {(Path(document.folder) / name).resolve() for name in _names_in(document.root)}
    # A file of sops or a policy may lie beside the documents: it is not one.
    problems = [line for path, error in failed.items() if path.resolve() not in named for line in error.problems]
    if problems:
        raise DocumentError(problems)
    documents = [
        document
        for path in files
        if path.resolve() not in named
        for document in read.get(path, ())
        if not _is_of_sops(document)
    ]
    if not documents:
        raise InvalidInputError(f"{folder} has no document: every file of it is named by another one")
    return documents


def _is_of_sops(document: Document) -> bool:
    """Return whether sops encrypted a document: it adds a member with what decrypts it."""
    members = document.root.data
    return isinstance(members, dict) and "sops" in members and "apiVersion" not in members


def _files_below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    try:
        entries, here = list(folder.iterdir()), folder.resolve()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its links form a circle"
        raise InvalidInputError(f"{folder} cannot be read: {reason}") from None
    if here in above:
        raise InvalidInputError(f"{folder} leads back to a directory that it is in", hint="remove the link")
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files_below(entry, above | {here})
        elif entry.suffix.lower() in SUFFIXES:
            yield entry


_NAMING: Final = ("values", "resource_policy", "inline_policy", "session_policy", "secret_access_key")
"""Members whose mapping names a file."""


def _names_in(node: Node) -> Iterator[str]:
    """Go through the files that a document names, anywhere in it."""
    waiting, seen = [node], set()
    while waiting:
        node = waiting.pop()
        if id(node.members) in seen or node.members is None:
            continue
        seen.add(id(node.members))
        if isinstance(node.members, list):
            waiting += node.members
            continue
        waiting += node.members.values()
        for member in _NAMING:
            source = node.data.get(member)
            if isinstance(source, dict) and len(source) == 1:
                (name,) = source.values()
                if isinstance(name, str):
                    yield name


def _documents(data: bytes, file: str, folder: Path) -> list[Document]:
    roots = [part for root in read_yaml(data, file) for part in _items_of(root, file)]
    return [Document(file=file, folder=str(folder), root=root) for root in roots]


def _items_of(root: Node, file: str) -> list[Node]:
    """Return the documents of a list of documents, as `dump -o json` writes several; any other document as it is."""
    if not isinstance(root.members, dict) or root.members.keys() != {"items", "next"}:
        return [root]
    items = root.members["items"]
    if not isinstance(items.members, list) or not items.members:
        place = Place(file, items.line, items.column)
        raise DocumentError([f"{place}: there is no document in items; list one, or write a document"])
    return items.members


def _read(path: Path, limit: int, *, name: str = "the file") -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not stat.S_ISFIFO(path.stat().st_mode):
            raise InvalidInputError(f"{name} is not a file")
        with path.open("rb") as file:
            return _bounded(file.read(limit + 1), name, limit)
    except FileNotFoundError:
        raise InvalidInputError(f"{name} does not exist") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name has a NUL character"
        raise InvalidInputError(f"{name} cannot be read: {reason}") from None


def _bounded(data: bytes, name: str, limit: int = MAX_BYTES) -> bytes:
    if len(data) > limit:
        raise InvalidInputError(f"{name} has more than {limit:,} bytes", hint="split it into several files")
    return data
