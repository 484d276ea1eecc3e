"""The connection form for Airflow before 3.2, made from the same data as the new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def widgets(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``conn-fields`` of the provider info as wtforms fields.

    :param fields: Name to ``{"label", "description", "schema"}``.
    """
    # Imported here: Flask's form libraries are only there, and only needed, in the old web server.
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget, Select2Widget
    from flask_babel import lazy_gettext
    from wtforms import BooleanField, PasswordField, SelectField, StringField

    def field(data: Mapping[str, Any]) -> Any:
        schema = data["schema"]
        label, text = lazy_gettext(data["label"]), data.get("description", "")
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        default = schema.get("default")
        if "enum" in schema:
            return SelectField(label, choices=schema["enum"], default=default, description=text, widget=Select2Widget())
        if "boolean" in kinds:
            return BooleanField(label, default=default, description=text)
        if schema.get("format") == "password":
            return PasswordField(label, description=text, widget=BS3PasswordFieldWidget())
        shown = None if default is None or isinstance(default, list) else str(default)
        return StringField(label, default=shown, description=text, widget=BS3TextFieldWidget())

    return {name: field(data) for name, data in fields.items()}
