"""Kind + name -> part, with the package each part came from. Built-ins and strangers enter by the same road.

Plugins are packages with an entry point in the group `matlabel_bench`; `MATLABEL_BENCH_BLOCK=name,name` leaves the
named entry points out, so that a broken plugin can be switched off without uninstalling it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from itertools import pairwise
from typing import Any

import pluggy

from matlabel_bench.errors import MissingPart, UsageError, near
from matlabel_bench.fields import build
from matlabel_bench.spec import KINDS, PROJECT, Hooks, implements

BLOCK = "MATLABEL_BENCH_BLOCK"


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered part: its class and where it came from."""

    kind: str
    name: str
    cls: type
    origin: str
    """Distribution and version, e.g. `matlabel-bench 0.1.0`."""

    @property
    def summary(self) -> str:
        return (self.cls.__doc__ or "").strip().splitlines()[0] if self.cls.__doc__ else ""


class Registry:
    """All parts of this process. `add` while plugins load, then frozen."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        self._origin = "this session"
        self._plugin = "PLUGIN"
        self._plugins: dict[tuple[str, str], str] = {}
        """Which entry point registered a part: what BLOCK would have to name."""
        self._frozen = False

    def add(self, kind: str, name: str, cls: type) -> None:
        """Register the frozen dataclass `cls` as `name`.

        Raises:
            UsageError: unknown kind, taken name, not a frozen dataclass, a method of the protocol missing,
                or the registry is already frozen.
        """
        who = f"{kind} {name!r} from {self._origin}"
        if self._frozen:
            raise UsageError(
                "parts to be registered in matlabel_register", f"{who} after start", "move the call into the hook"
            )
        if kind not in KINDS:
            raise UsageError("a known kind of part", f"{kind!r} for {name!r} from {self._origin}", near(kind, KINDS))
        if (kind, name) in self._entries:
            raise UsageError(
                f"a new name for a {kind}",
                f"{who}, already registered by {self._entries[kind, name].origin}",
                f"rename one, or leave a plugin out: {BLOCK}={self._plugins[kind, name]} or {BLOCK}={self._plugin}",
            )
        if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise UsageError("a part to be a frozen dataclass", who, "decorate the class with @dataclass(frozen=True)")
        if lacking := list(implements(kind, cls)):
            raise UsageError(
                f"a {kind} to have {', '.join(lacking)}",
                f"{who} without",
                "see matlabel_bench/spec.py for the protocol",
            )
        self._entries[kind, name] = Entry(kind, name, cls, self._origin)
        self._plugins[kind, name] = self._plugin

    def get(self, kind: str, name: str) -> Entry:
        """Raises MissingPart, with near misses, where nothing of that name is registered."""
        try:
            return self._entries[kind, name]
        except KeyError:
            names = [n for k, n in self._entries if k == kind]
            raise MissingPart(f"a registered {kind}", f"{name!r}", near(name, names)) from None

    def make(self, kind: str, name: str, **fields: Any) -> Any:
        """An instance with the given fields, checked (UsageError) and converted from strings where needed."""
        return build(self.get(kind, name).cls, fields, name)

    def name_of(self, part: Any) -> str:
        """The registered name of a part's class."""
        return next(e.name for e in self if e.cls is type(part))

    def find(self, name: str) -> list[Entry]:
        """Every part of that name, of whatever kind. Raises UsageError where there is none."""
        if "/" in name:
            kind, _, name = name.partition("/")
            return [self.get(kind, name)]
        if found := [e for e in self if e.name == name]:
            return found
        raise UsageError("the name of a part", f"{name!r}", near(name, {e.name for e in self}))

    def __iter__(self) -> Iterator[Entry]:
        return iter(sorted(self._entries.values(), key=lambda e: (KINDS.index(e.kind), e.name)))

    def freeze(self) -> None:
        self._frozen = True

    def load(self, manager: pluggy.PluginManager, entry: EntryPoint) -> None:
        """Let one entry point register its parts; errors name the plugin and the way to switch it off."""
        self._origin, self._plugin = origin(entry), entry.name
        try:
            module = entry.load()
            manager.register(module, name=entry.name)
            hook = manager.subset_hook_caller(
                "matlabel_register", [m for _, m in manager.list_name_plugin() if m is not None and m is not module]
            )
            hook(registry=self)
        except UsageError:
            raise
        except (Exception, SystemExit) as err:
            raise UsageError(
                f"plugin {entry.name!r} ({self._origin}) to load",
                f"{type(err).__name__}: {err}",
                f"repair or uninstall it, or set {BLOCK}={entry.name} to go on without it",
            ) from err


@lru_cache(maxsize=1)
def start() -> tuple[Registry, pluggy.PluginManager]:
    """The registry and the hooks, with every installed plugin loaded; once in a process."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    registry = Registry()
    blocked = {b.strip() for b in os.environ.get(BLOCK, "").split(",") if b.strip()}
    found = sorted(entry_points(group=PROJECT), key=lambda e: (e.name, origin(e)))
    names = {e.name for e in found}
    if unknown := blocked - names:
        raise UsageError(f"{BLOCK} to name entry points", ", ".join(sorted(unknown)), near(min(unknown), names))
    loading = [e for e in found if e.name not in blocked]
    for one, other in pairwise(loading):
        if one.name == other.name:
            raise UsageError(
                "plugins whose entry points have different names",
                f"{one.name!r} from {origin(one)} and from {origin(other)}",
                f"uninstall one of them, or set {BLOCK}={one.name} to go on without both",
            )
    for entry in loading:
        registry.load(manager, entry)
    _check_hooks(manager)
    registry.freeze()
    return registry, manager


def origin(entry: EntryPoint) -> str:
    """The distribution and version that an entry point belongs to."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def _check_hooks(manager: pluggy.PluginManager) -> None:
    """Raises UsageError for a hook that this program does not call: a misspelt one would be ignored for ever."""
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as err:
        known = [n for n in vars(Hooks) if not n.startswith("_")]
        raise UsageError(f"hooks among {', '.join(known)}", str(err), "correct the hook's name in the plugin") from err
