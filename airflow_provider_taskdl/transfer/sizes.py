"""Sizes that several parts agree on; importing them costs a DAG file nothing."""

from __future__ import annotations

MIB = 1024 * 1024
# Of a part, unless somebody asks for another.
PART_SIZE = 16 * MIB
