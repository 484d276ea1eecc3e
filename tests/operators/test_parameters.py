"""What a template, an XCom or JSON leaves of a parameter means the same as the parameter."""

from __future__ import annotations

import json
from collections import UserList
from typing import Any

import pytest

from airflow_provider_taskdl.exceptions import ConnectionConfigError
from airflow_provider_taskdl.operators.download import shards
from airflow_provider_taskdl.operators.parameters import count_or_names, patterns, shard_count, shard_of
from airflow_provider_taskdl.transfer.shard import Shard


@pytest.mark.parametrize(
    "value",
    [(1, 4), [1, 4], ("1", "4"), ["1", 4], "(1, 4)", "[1, 4]", " 1,4 ", "1, 4", "[ 1 , 4 ]", json.loads("[1, 4]"),
     str((1, 4)), str([1, 4]), shards(4)[1], json.loads(json.dumps(shards(4)))[1]],
)  # fmt: skip
def test_a_shard_is_the_same_however_it_came(value: Any) -> None:
    assert shard_of(value) == Shard(1, 4)


def test_no_shard_is_all_files() -> None:
    assert shard_of(None) is None


@pytest.mark.parametrize(
    "value",
    [(), (1,), (1, 2, 3), "", "None", "1", 1, True, {0: 1}, {0, 1}, (True, 2), (0.0, 2), ("a", "b"), "1 of 4", "-1, 4",
     "²,4", [[0, 2]], [(0, 2), (1, 2)], (None, 2)],
)  # fmt: skip
def test_what_is_no_pair_is_refused_with_the_right_form(value: Any) -> None:
    with pytest.raises(ConnectionConfigError, match=r"which one \(from 0 on\) and of how many, such as \(0, 4\)"):
        shard_of(value)


@pytest.mark.parametrize("value", [(4, 4), (-1, 4), (0, 0), "4, 4", (1, -3)])
def test_a_shard_out_of_bounds_is_refused_with_the_bounds(value: Any) -> None:
    with pytest.raises(ConnectionConfigError, match="counted from 0 to one less than their number"):
        shard_of(value)


@pytest.mark.parametrize("value", [4, "4", " 4 ", shards(4), json.loads(json.dumps(shards(4)))])
def test_the_number_of_shards_may_be_all_of_them(value: Any) -> None:
    assert shard_count(value) == 4


@pytest.mark.parametrize(
    "value", [0, -1, True, None, "", "0", "four", 2.0, [], [(0, 2)], [(1, 2), (0, 2)], [(0, 2)] * 2, [(0, 3), (1, 3)]]
)  # fmt: skip
def test_what_is_no_number_of_shards_is_refused(value: Any) -> None:
    with pytest.raises(ConnectionConfigError, match="must be their number"):
        shard_count(value)


@pytest.mark.parametrize("value", ["x", [1, 2], [(0,)], {}])
def test_what_is_nothing_like_shards_is_refused(value: Any) -> None:
    with pytest.raises(ConnectionConfigError, match=r"must be"):
        shard_count(value)


def test_shards_are_pairs_that_json_keeps() -> None:
    assert shards(3) == [(0, 3), (1, 3), (2, 3)]
    assert json.loads(json.dumps(shards(3))) == [[0, 3], [1, 3], [2, 3]]


@pytest.mark.parametrize("count", [0, -1, True, 2.0, "2", None])
def test_there_is_at_least_one_shard(count: Any) -> None:
    with pytest.raises(ConnectionConfigError, match="at least one shard"):
        shards(count)


@pytest.mark.parametrize("value", [["a.tif", "[1].tif"], str(["a.tif", "[1].tif"]), json.dumps(["a.tif", "[1].tif"])])
def test_names_and_patterns_are_the_same_however_they_came(value: Any) -> None:
    assert count_or_names(value) == patterns(value) == ["a.tif", "[1].tif"]


@pytest.mark.parametrize("name", ["a.tif", "[ab].tif", "[1, 2]", "(1).tif", "[", "{'a'}", "{[]: 1}", "[" * 10_000])
def test_one_name_is_no_list_whatever_it_looks_like(name: str) -> None:
    assert (count_or_names(name), patterns(name)) == ([name], name)


@pytest.mark.parametrize(("value", "words"), [(5, "5"), ([5, "a"], ["5", "a"]), (("a",), ["a"]), (2025.5, "2025.5")])
def test_a_pattern_that_native_rendering_made_a_number_of_is_text_again(value: Any, words: Any) -> None:
    assert patterns(value) == words


def test_patterns_may_come_in_any_collection() -> None:
    assert patterns(UserList(["a", "b"])) == ["a", "b"]  # as Airflow's own sequence of a mapped task's results
    assert set(patterns({"a", "b"}) or ()) == {"a", "b"}  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [True, {"a": 1}, [None], [["a"]], b"a", object])
def test_what_is_no_pattern_is_refused(value: Any) -> None:
    with pytest.raises(ConnectionConfigError, match="file_pattern must be a shell pattern, or several, not"):
        patterns(value)


def test_an_empty_list_that_became_text_expects_nothing() -> None:
    assert (count_or_names("[]"), patterns("[]")) == ([], [])
