"""How the families of hostile input are run: how many examples, from which seed, and what every one of them must keep.

A short run with a fixed seed is part of the tests. A long one is ``make fuzz``; its size and seed are in
``TASKDL_FUZZ_EXAMPLES`` and ``TASKDL_FUZZ_SEED``.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning

from airflow_provider_taskdl.backoff import MAX_RETRY_AFTER
from airflow_provider_taskdl.exceptions import TaskDownloadError
from tests.canary import CANARY

EXAMPLES = int(os.environ.get("TASKDL_FUZZ_EXAMPLES", "2000"))
SEED = int(os.environ.get("TASKDL_FUZZ_SEED", "1"))
# Each round has a seed of its own and forgets the one before, so that a long run needs no more memory than a short one.
_ROUND = 10_000
# Of one input, in processor time, so that a busy machine changes nothing. Most need less than a millisecond.
_MAX_SECONDS = 2.0
_MAX_TEXT = 8000
_MARK = "CANARY-5c0ffee5"

# What was run: family to number of inputs and seconds.
done: dict[str, tuple[int, float]] = {}


@dataclass(frozen=True)
class Several:
    """A parameter of which each draw gives several values, each to be combined with all others' values.

    :param values: Gives one.
    :param count: How many.
    """

    values: st.SearchStrategy[Any]
    count: int = 6

    def drawn(self) -> st.SearchStrategy[list[Any]]:
        return st.lists(self.values, min_size=self.count, max_size=self.count)


def every(*values: Any) -> Several:
    """Return a parameter that takes each of these values, combined with all others' values."""

    class All(Several):
        def drawn(self) -> st.SearchStrategy[list[Any]]:
            return st.just(list(values))

    return All(st.nothing(), len(values))


def family(**parameters: Several) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Make a test of a check that is to hold for all combinations of hostile values.

    Combining what was drawn gives many inputs for the price of a few draws, which cost more than most checks.
    """
    per_draw = math.prod(parameter.count for parameter in parameters.values())

    def decorate(check: Callable[..., None]) -> Callable[[], None]:
        def test() -> None:
            began, count = time.monotonic(), 0

            def one(**drawn: list[Any]) -> None:
                nonlocal count
                for values in itertools.product(*drawn.values()):
                    count += 1
                    inputs = dict(zip(drawn, values, strict=True))
                    started = time.thread_time()
                    try:
                        check(**inputs)
                        assert time.thread_time() - started < _MAX_SECONDS, "it took too long"
                    except BaseException:
                        note(f"the input: {inputs!r:.3000}")
                        raise

            for number in itertools.count():
                limits = settings(
                    max_examples=-(-min(_ROUND, EXAMPLES - count) // per_draw),
                    deadline=None,
                    database=None,
                    phases=(Phase.generate, Phase.shrink),
                    report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                )
                strategies = {name: parameter.drawn() for name, parameter in parameters.items()}
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", HypothesisWarning)  # of a failing example that is long
                    limits(seed(SEED + number)(given(**strategies)(one)))()
                done[check.__name__] = count, time.monotonic() - began
                if count >= EXAMPLES:
                    break

        functools.update_wrapper(test, check, assigned=("__module__", "__name__", "__doc__"), updated=())
        del vars(test)["__wrapped__"]  # or pytest would take the parameters for fixtures
        return test

    return decorate


def judge(error: TaskDownloadError) -> None:
    """Fail unless an error is one that may reach a log, an event and a database."""
    text, event = str(error), error.to_dict()
    hides(text, repr(error), repr(vars(error)), repr(error.args), repr(event))
    for linked in (error.__cause__, error.__context__):  # an error of a library can show a secret; ours are redacted
        if linked is not None:
            assert type(linked).__module__.startswith("airflow_provider_taskdl."), repr(linked)
            hides(str(linked), repr(vars(linked)))
    assert text.encode(), "a text that cannot be stored"
    assert len(text) <= _MAX_TEXT, "a foreign text at full length"
    assert text.isprintable(), "a foreign text could forge lines of a log"
    assert error.retry_after is None or 0 <= error.retry_after <= MAX_RETRY_AFTER
    again = TaskDownloadError.from_dict(json.loads(json.dumps(event)))
    assert (type(again), again.retryable) == (type(error), error.retryable)


def hides(*texts: str | bytes) -> None:
    """Fail if the canary shows: the part of it that no quoting changes."""
    for text in texts:
        assert _MARK not in (text if isinstance(text, str) else text.decode("latin-1")), text


# Characters that have broken parsers, paths and logs before.
NASTY = (
    "\x00\x01\t\n\r\x1b\x7f\x85\xa0\xad\u00e9e\u0301\u200b\u200e\u202e\u2028\u2029\ufeff\ufffd\U0001f600"
    "\uff0f\u2215\u2024"
)
PLAIN = "abcAZ09 ._-/\\:;?#@%&=+'\"<>[]{}()*,~$^|`!"
texts = st.text(st.one_of(st.sampled_from(PLAIN), st.sampled_from(NASTY), st.characters()), max_size=24)
_values = st.sampled_from([CANARY, "CANARY-5c0ffee5%2F%2B%3D%3D", f"x{CANARY}y"])
_names = st.sampled_from(
    ["sign", "sig", "X-Amz-Signature", "authorization", "token", "anything", "Expires", "x\u00e9", "a[b]"]
)
# A URL with a secret in its query, as a service might quote it.
secret_urls = st.builds(
    lambda scheme, host, path, name, value: f"{scheme}://{host}{path}?a=1&{name}={value}&z=2",
    st.sampled_from(["https", "http", "HTTPS", "s3", "ftp"]),
    st.sampled_from(
        ["h.example", "u:p@h.example:8443", "[::1]", "[broken", "h.example:99999", "\u00e9.example", "a_b"]
    ),
    st.sampled_from(["/", "", "/a/b%20c", "/\u00e9", "/a;b=c", "//"]),
    _names,
    _values,
)
