"""
Resolves the references of one folder: all of them, or none.

It reads no store: environments that are referenced but were not passed in are named in `needs`. The caller loads them
and calls again. Problems name keys and references, never values. `reference_syntax.py` has the syntax.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from phasesync.core.canonical_json import Json, canonical_json, map_strings, parse_json_document
from phasesync.core.model import EnvironmentSnapshot, SecretValue, ValueType
from phasesync.core.names import ROOT
from phasesync.core.reference_syntax import Reference, Target, is_well_formed, pieces, references_in, targets
from phasesync.errors import InvalidInputError, UnresolvedReferenceError

MAX_CHARACTERS = 262_144
"""A value that grows beyond this by its references is refused: four times what a destination accepts."""

MAX_TOTAL_BYTES = 16_777_216
"""
Limit for all values with references together: 256 times what a destination accepts for one object.

Each value may be within its own limit while the folder becomes a thousand times as large as the store: 16,000 keys that
refer to the same 256 KiB make 4 GiB. Values without references do not count; the store has them as they are.
"""

_MAX_CYCLE_SHOWN = 30
_BYTES_OF_A_CHARACTER = 4
"""At most, in UTF-8."""

EnvironmentKey = tuple[str, str]
"""App and environment in lower case."""


class ProblemKind(StrEnum):
    """Why a reference does not resolve."""

    MISSING_KEY = "missing-key"
    MISSING_ENVIRONMENT = "missing-environment"
    AMBIGUOUS = "ambiguous"
    CIRCULAR = "circular"
    MALFORMED = "malformed"
    BINARY = "binary"
    """A text refers to a binary value."""
    INVALID_VALUE = "invalid-value"
    """The value is not of its type."""
    TOO_LARGE = "too-large"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """
    A problem that the operator has to correct.

    Attributes:
        key: the key to correct, as a reference from the resolved folder names it.
        reference: as it stands in the value, None if the value itself is the problem.
        detail: what is wrong, as the second half of a sentence.
    """

    kind: ProblemKind
    key: str
    reference: str | None
    detail: str

    @property
    def text(self) -> str:
        """One line for the operator."""
        return f"{self.key}: {self.reference or 'the value'} {self.detail}"


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """
    The result for one folder.

    Attributes:
        values: key -> resolved value, for the keys of that folder; empty unless everything resolved.
        reads: environment id -> revision of every environment that the result depends on.
        needs: environments that are referenced and were not passed in.
        problems: in the order of the folder's keys.
        referring: keys of that folder that have references in their values.
    """

    values: Mapping[str, SecretValue] = field(repr=False)
    reads: Mapping[str, int]
    needs: frozenset[EnvironmentKey]
    problems: tuple[Problem, ...]
    referring: frozenset[str] = frozenset()

    @property
    def complete(self) -> bool:
        """Whether `values` is complete."""
        return not self.needs and not self.problems


def resolve(
    environment: EnvironmentSnapshot,
    path: str,
    loaded: Mapping[EnvironmentKey, EnvironmentSnapshot | None],
    *,
    only: str | None = None,
) -> Resolution:
    """
    Resolve the values of one folder, in time linear in the values that are referenced and in `MAX_TOTAL_BYTES`.

    Args:
        environment: the environment that has the folder.
        path: the folder; values of folders within it are not part of the result.
        loaded: (app, environment) in lower case -> other environments; None if it is known not to exist.
        only: resolve this key and its references, even if other keys have problems; None means all keys.
    """
    return _Resolver(environment, path, loaded, only).run()


def unresolved(problems: Sequence[Problem]) -> UnresolvedReferenceError:
    """Return the error for problems; there must be at least one."""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    hint = "refer to shorter values, or from fewer keys" if problems[0].kind is ProblemKind.TOO_LARGE else None
    return UnresolvedReferenceError(f"{problems[0].text}{more}", hint=hint)


Node = tuple[EnvironmentKey, str, str]
"""Environment, path and key of one secret."""


class _NoValue(Enum):
    """Takes the place of a value that could not be resolved."""

    PENDING = "an environment is not loaded yet"
    FAILED = "a problem was recorded"


@dataclass
class _Frame:
    """A secret that has references which are being followed."""

    node: Node
    content: Json
    type: ValueType
    links: dict[str, Node]
    expressions: dict[Node, str]
    """The first reference that leads to each secret."""
    todo: deque[Node]
    state: _NoValue | None = None


class _TooLarge(Exception):
    """A value grew beyond MAX_CHARACTERS, or all values together beyond MAX_TOTAL_BYTES."""


class _Resolver:
    """Follows references depth first, with its own stack: chains may be longer than Python's stack."""

    def __init__(
        self,
        environment: EnvironmentSnapshot,
        path: str,
        loaded: Mapping[EnvironmentKey, EnvironmentSnapshot | None],
        only: str | None,
    ) -> None:
        self._home = _key_of(environment)
        self._path = path
        self._loaded = {**loaded, self._home: environment}
        self._results: dict[Node, SecretValue | _NoValue] = {}
        self._active: dict[Node, int] = {}
        """The secrets in `_chain` with their positions."""
        self._chain: list[Node] = []
        self._left = MAX_TOTAL_BYTES
        self._exhausted = False
        self._reads = {environment.environment_id: environment.revision}
        self._needs: set[EnvironmentKey] = set()
        self._problems: list[Problem] = []
        self._referring: set[Node] = set()
        self._keys = sorted(key for folder, key in environment.secrets if folder == path and only in {None, key})

    def run(self) -> Resolution:
        for key in self._keys:
            self._follow((self._home, self._path, key))
        complete = not self._needs and not self._problems
        values: dict[str, SecretValue] = {}
        for key in self._keys if complete else ():
            value = self._results[self._home, self._path, key]
            assert isinstance(value, SecretValue)  # noqa: S101 - neither needs nor problems: every key has a value
            values[key] = value
        return Resolution(
            values=values,
            reads=self._reads,
            needs=frozenset(self._needs),
            problems=tuple(self._problems),
            referring=frozenset(key for key in values if (self._home, self._path, key) in self._referring),
        )

    def _follow(self, root: Node) -> None:
        stack: list[_Frame] = []
        self._open(root, stack)
        while stack:
            frame = stack[-1]
            if not frame.todo:
                stack.pop()
                self._chain.pop()
                del self._active[frame.node]
                self._results[frame.node] = frame.state or self._render(frame)
            elif frame.todo[0] in self._active:
                frame.state = self._circular(frame, frame.todo.popleft())
            elif not self._open(frame.todo[0], stack):
                # An opened secret stays in `todo` until it has a result.
                result = self._results[frame.todo.popleft()]
                if isinstance(result, _NoValue):
                    frame.state = _worse(frame.state, result)

    def _open(self, node: Node, stack: list[_Frame]) -> bool:
        """Start to resolve a secret; return False if its result is known at once."""
        if node in self._results:
            return False
        value = self._snapshot(node[0]).secrets[node[1], node[2]]
        if value.type is ValueType.BINARY:
            self._results[node] = value
            return False
        try:
            content: Json = value.reveal_text() if value.type is ValueType.TEXT else parse_json_document(value.reveal())
        except UnicodeDecodeError:
            self._results[node] = self._problem(ProblemKind.INVALID_VALUE, node, None, "is not UTF-8 text")
            return False
        except InvalidInputError:
            self._results[node] = self._problem(ProblemKind.INVALID_VALUE, node, None, "is not valid JSON")
            return False
        if isinstance(content, str) and value.type is ValueType.TEXT and "$" not in content:
            self._results[node] = value  # Most values: there is no reference, and nothing that is escaped.
            return False
        frame = _Frame(node=node, content=content, type=value.type, links={}, expressions={}, todo=deque())
        for reference in _references(content):
            link = self._link(node, reference)
            if isinstance(link, _NoValue):
                frame.state = _worse(frame.state, link)
            else:
                frame.links[reference.expression] = link
                frame.expressions.setdefault(link, reference.expression)
        frame.todo.extend(frame.expressions)
        if frame.links:
            self._referring.add(node)
        stack.append(frame)
        self._active[node] = len(self._chain)
        self._chain.append(node)
        return True

    def _link(self, node: Node, reference: Reference) -> Node | _NoValue:
        """Return the one secret that a reference names."""
        candidates: list[Node] = []
        missing: list[EnvironmentKey] = []
        pending = False
        for target in targets(reference.expression):
            key = (target.app or node[0][0]).lower(), (target.environment or node[0][1]).lower()
            if key not in self._loaded:
                self._needs.add(key)
                pending = True
                continue
            snapshot = self._loaded[key]
            if snapshot is None:
                missing.append(key)
                continue
            self._reads[snapshot.environment_id] = snapshot.revision
            candidates += ((key, folder, target.key) for folder in _present(snapshot, node[1], target))
        if pending:
            return _NoValue.PENDING
        if len(candidates) == 1:
            return candidates[0]
        return self._unlinked(node, reference, candidates, missing)

    def _unlinked(
        self, node: Node, reference: Reference, candidates: Sequence[Node], missing: Sequence[EnvironmentKey]
    ) -> _NoValue:
        if candidates:
            names = " and ".join(f"the key {key} of {'/'.join(place)}" for place, _, key in candidates)
            return self._problem(ProblemKind.AMBIGUOUS, node, reference, f"is ambiguous: it means {names}")
        if not is_well_formed(reference.expression):
            detail = "is not a reference; write $${ if a literal ${ is meant"
            return self._problem(ProblemKind.MALFORMED, node, reference, detail)
        if missing:
            app, environment = missing[0]
            detail = f"leads nowhere: there is no environment {app}/{environment}"
            return self._problem(ProblemKind.MISSING_ENVIRONMENT, node, reference, detail)
        return self._problem(ProblemKind.MISSING_KEY, node, reference, "leads nowhere: there is no such key")

    def _circular(self, frame: _Frame, target: Node) -> _NoValue:
        # Only the names that are shown are built: a chain may be long, and all its secrets may refer to its start.
        first, half = self._active[target], _MAX_CYCLE_SHOWN // 2
        length = len(self._chain) - first + 1
        if length > _MAX_CYCLE_SHOWN:
            begin, end = self._chain[first : first + half], self._chain[len(self._chain) - half + 1 :]
            names = [*map(self._name, begin), f"({length - 2 * half} more)", *map(self._name, end), self._name(target)]
        else:
            names = [self._name(node) for node in [*self._chain[first:], target]]
        reference = Reference(frame.expressions[target])
        return self._problem(ProblemKind.CIRCULAR, frame.node, reference, f"is circular: {' -> '.join(names)}")

    def _render(self, frame: _Frame) -> SecretValue | _NoValue:
        """Return a value with the results of all its references put in."""
        for expression, node in frame.links.items():
            value = self._results[node]
            if isinstance(value, SecretValue) and value.type is ValueType.BINARY:
                detail = "is binary and cannot be put into a text"
                return self._problem(ProblemKind.BINARY, frame.node, Reference(expression), detail)
        if not frame.links:
            return self._assemble(frame, MAX_TOTAL_BYTES)
        if self._needs:
            return _NoValue.PENDING  # It is resolved again, once the missing environments are loaded.
        if self._exhausted:
            return _NoValue.FAILED
        room = min(MAX_CHARACTERS, self._left)
        try:
            return self._assemble(frame, room)
        except _TooLarge:
            if self._left > 0 and room == MAX_CHARACTERS:
                detail = f"grows beyond {MAX_CHARACTERS:,} characters by its references"
                return self._problem(ProblemKind.TOO_LARGE, frame.node, None, detail)
            self._exhausted = True
            detail = f"and the values before it grow beyond {MAX_TOTAL_BYTES:,} bytes together by their references"
            return self._problem(ProblemKind.TOO_LARGE, frame.node, None, detail)

    def _assemble(self, frame: _Frame, room: int) -> SecretValue:
        """Return a value with its references replaced; _TooLarge if there is no room for it."""
        spent = 0

        def spend(bytes_: int) -> None:
            nonlocal spent
            spent += bytes_
            self._left -= bytes_
            if self._left < 0:
                raise _TooLarge

        def rendered(text: str) -> str:
            nonlocal room
            if "${" not in text:
                return text
            parts = []
            for piece in pieces(text):
                part = piece if isinstance(piece, str) else self._text(frame.links[piece.expression], room)
                room -= len(part)
                if frame.links:
                    if room < 0:
                        raise _TooLarge
                    spend(len(part.encode()))
                parts.append(part)
            return "".join(parts)

        if isinstance(frame.content, str) and frame.type is ValueType.TEXT:
            if (shared := self._shared(frame, frame.content)) is not None and len(shared) <= room:
                spend(len(shared))
                return shared
            return SecretValue(rendered(frame.content))
        value = SecretValue(canonical_json(map_strings(frame.content, rendered)), ValueType.JSON)
        if frame.links:
            spend(max(0, len(value) - spent))  # Quoted, a text may be several times as long.
        return value

    def _shared(self, frame: _Frame, content: str) -> SecretValue | None:
        """Return the result of a text that is exactly one reference, None for any other text."""
        if len(frame.links) != 1:
            return None
        ((expression, node),) = frame.links.items()
        value = self._results[node]
        same = content == f"${{{expression}}}" and isinstance(value, SecretValue) and value.type is ValueType.TEXT
        return value if same and isinstance(value, SecretValue) else None

    def _text(self, node: Node, room: int) -> str:
        """Return the text of a result; _TooLarge, before anything is copied, if there is no room for it."""
        value = self._results[node]
        assert isinstance(value, SecretValue)  # noqa: S101 - a frame without state has a value behind every link
        if len(value) > _BYTES_OF_A_CHARACTER * room:
            raise _TooLarge
        return value.reveal_text()

    def _snapshot(self, key: EnvironmentKey) -> EnvironmentSnapshot:
        snapshot = self._loaded[key]
        assert snapshot is not None  # noqa: S101 - nodes are made from snapshots
        return snapshot

    def _problem(self, kind: ProblemKind, node: Node, reference: Reference | None, detail: str) -> _NoValue:
        shown = reference.shown if reference else None
        self._problems.append(Problem(kind=kind, key=self._name(node), reference=shown, detail=detail))
        return _NoValue.FAILED

    def _name(self, node: Node) -> str:
        """Name a secret as a reference from the resolved folder would."""
        (app, environment), path, key = node
        if node[0] == self._home and path == self._path:
            return key
        folder = "" if path == ROOT else f"{path}/"
        if node[0] == self._home:
            return f"{folder or ROOT}{key}"
        return f"{'' if app == self._home[0] else f'{app}::'}{environment}.{folder}{key}"


def _key_of(environment: EnvironmentSnapshot) -> EnvironmentKey:
    return environment.app.lower(), environment.name.lower()


def _present(snapshot: EnvironmentSnapshot, own_path: str, target: Target) -> list[str]:
    """Return the folder in which a target's key is, or nothing."""
    folders = (own_path, ROOT) if target.path is None else (target.path,)
    return next(([folder] for folder in folders if (folder, target.key) in snapshot.secrets), [])


def _references(content: Json) -> list[Reference]:
    """Return the references in a text, or in the string leaves of a document, each once."""
    references: dict[Reference, None] = {}

    def note(text: str) -> str:
        references.update(dict.fromkeys(references_in(text)))
        return text

    map_strings(content, note)
    return list(references)


def _worse(a: _NoValue | None, b: _NoValue) -> _NoValue:
    return _NoValue.FAILED if _NoValue.FAILED in (a, b) else b
