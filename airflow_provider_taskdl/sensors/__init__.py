"""Waiting in a task."""
