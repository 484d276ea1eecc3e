"""Moving files in a task."""
