"""Airflow provider for remote tasks that end in short-lived download links.

The package is used through its modules (``hooks``, ``sensors``, ``operators``); importing the package itself
imports nothing, so that discovery by Airflow stays free of cost.
"""

__version__ = "0.1.0"
