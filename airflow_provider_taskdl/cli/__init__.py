"""Connections and tasks from a terminal."""
