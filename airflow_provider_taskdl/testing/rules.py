"""Which requests a fault happens to, as objects and as lines of text.

A line is ``<kind>[:<pattern>] <fault> [<value>] [name=value …] [times=N] [after=N]``::

    file:big.bin cut at=1MiB times=2          twice, end the connection before the file's second mebibyte
    bls.link status 503 retry_after=2         every time
    eo.link hide how=null times=3 after=1     from the second question to the fourth

Kinds are ``bls.link``, ``bls.status``, ``bls.list``, ``bls.create``, ``bls.delete``, ``eo.link``, ``eo.status``,
``eo.list``, ``eo.create``, ``market.link`` and ``file``, or a pattern such as ``*.link``. What stands behind the colon
is matched with the task's id, or with the file's name and path. A value without a name is the fault's first parameter;
the name of a yes-or-no parameter alone means yes. Every rule that matches is applied, in the order they were made.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args, get_origin, get_type_hints

from airflow_provider_taskdl.testing.exchange import Reply, Request
from airflow_provider_taskdl.testing.faults import Fault

KINDS = (
    "bls.link", "bls.status", "bls.list", "bls.create", "bls.delete",
    "eo.link", "eo.status", "eo.list", "eo.create", "market.link", "file",
)  # fmt: skip

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_AMOUNT = re.compile(r"(-?\d+)([A-Za-z]*)")


@dataclass
class Rule:
    """A fault and the requests it happens to.

    :param kind: Pattern of the endpoint's kind.
    :param pattern: Pattern of the task's id, or the file's name or path.
    :param fault: What goes wrong.
    :param times: How many requests; all by default.
    :param after: How many are let through before.
    :param fired: How many went wrong until now.
    """

    kind: str
    pattern: str
    fault: Fault
    times: int | None = None
    after: int = 0
    fired: int = 0
    _passed: int = 0

    @classmethod
    def at(cls, where: str, fault: Fault) -> Rule:
        """Return a rule for ``kind`` or ``kind:pattern``.

        :param where: Which requests.
        :param fault: What goes wrong.
        :raises ValueError: There is no such kind.
        """
        kind, _, pattern = where.strip().partition(":")
        if not any(fnmatchcase(known, kind) for known in KINDS):
            raise ValueError(f"{kind!r} is no kind of request; known: {', '.join(KINDS)}")
        return cls(kind, pattern or "*", fault)

    def takes(self, request: Request, reply: Reply | None = None) -> bool:
        """Tell whether the fault happens to this request, and count it.

        :param request: The request.
        :param reply: The reply, once there is one.
        """
        if self.times is not None and self.fired >= self.times:
            return False
        if not fnmatchcase(request.kind, self.kind):
            return False
        if self.pattern != "*" and not any(fnmatchcase(name, self.pattern) for name in request.names):
            return False
        if not self.fault.applies(request, reply):
            return False
        if self._passed < self.after:
            self._passed += 1
            return False
        self.fired += 1
        return True


def known_faults() -> Mapping[str, type[Fault]]:
    """Return the faults by their words in a rule's text; also those that were defined elsewhere."""
    # So that their faults are there.
    import airflow_provider_taskdl.testing.file_faults
    import airflow_provider_taskdl.testing.wire_faults  # noqa: F401

    return {kind.word: kind for kind in _tree(Fault) if "word" in vars(kind)}


def parse_rule(text: str) -> Rule:
    """Return the rule that a line of text says.

    :param text: The line, as the module's docstring describes it.
    :raises ValueError: It cannot be understood; the message says why, and what would be.
    """
    try:
        where, word, *rest = shlex.split(text)
    except ValueError:
        raise ValueError(f"{text!r} is no rule; write '<kind>[:<pattern>] <fault> [name=value …]'") from None
    kind = known_faults().get(word)
    if kind is None:
        raise ValueError(f"{word!r} is no fault; known: {', '.join(sorted(known_faults()))}")
    types = get_type_hints(kind)
    parameters = {field.name: types[field.name] for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for token in rest:
        name, value = _named(token, list(parameters), word)
        if name in given:
            raise ValueError(f"{word}: {name} is given twice")
        try:
            given[name] = _read(value, {**parameters, "times": int, "after": int}[name])
        except ValueError as error:
            raise ValueError(f"{word}: {name}={value!r} {error}") from None
    counts = {name: given.pop(name) for name in ("times", "after") if name in given}
    try:
        rule = Rule.at(where, kind(**given))
    except TypeError:
        missing = [field.name for field in dataclasses.fields(kind) if field.name not in given]  # type: ignore[arg-type]
        raise ValueError(f"{word} needs {missing[0]}") from None
    return dataclasses.replace(rule, **counts)


def _named(token: str, parameters: list[str], word: str) -> tuple[str, str]:
    name, equals, value = token.partition("=")
    if name.replace("-", "_") in (*parameters, "times", "after"):
        return name.replace("-", "_"), value if equals else "yes"
    if equals and re.fullmatch(r"[a-z_-]+", name):
        raise ValueError(f"{word} has no parameter {name!r}; known: {', '.join((*parameters, 'times', 'after'))}")
    if not parameters:
        raise ValueError(f"{word} takes no value, but {token!r} was given")
    return parameters[0], token


def _read(text: str, kind: Any) -> Any:
    choices = get_args(kind)
    if get_origin(kind) is Literal:
        if text not in choices:
            raise ValueError(f"is none of {', '.join(choices)}")
        return text
    kinds = set(choices) or {kind}
    if bool in kinds:
        if text not in ("yes", "no", "true", "false"):
            raise ValueError("is neither yes nor no")
        return text in ("yes", "true")
    if float in kinds:
        try:
            return float(text)
        except ValueError:
            raise ValueError("is no number") from None
    if int in kinds:
        amount = _AMOUNT.fullmatch(text)
        if amount is None or amount[2].upper() not in _UNITS:
            raise ValueError("is no number, nor one with KB, MB, GB, KiB, MiB or GiB")
        return int(amount[1]) * _UNITS[amount[2].upper()]
    return text


def _tree(root: type[Fault]) -> Iterator[type[Fault]]:
    for child in root.__subclasses__():
        yield child
        yield from _tree(child)
