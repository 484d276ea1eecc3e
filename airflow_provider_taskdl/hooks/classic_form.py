"""The connection form for Airflow before 3.2, made from the same data as the new one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, ClassVar


class ClassicForm:
    """Gives a hook the two methods that Airflow before 3.2 asks for its connection form."""

    conn_type: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Those versions look for the methods in the hook's own class and overlook inherited ones.
        for name in ("get_connection_form_widgets", "get_ui_field_behaviour"):
            if name not in vars(cls):
                setattr(cls, name, vars(ClassicForm)[name])

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's extra fields."""
        return widgets(cls._form().get("conn-fields", {}))

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the form's labels, and which standard fields it hides."""
        behaviour = cls._form().get("ui-field-behaviour", {})
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    @classmethod
    def _form(cls) -> Mapping[str, Any]:
        # What the distribution that the hook comes with has declared to Airflow.
        package = cls.__module__.partition(".")[0]
        for point in entry_points(group="apache_airflow_provider"):
            if point.module.partition(".")[0] == package:
                for form in point.load()().get("connection-types", ()):
                    if form["connection-type"] == cls.conn_type:
                        return dict(form)
        return {}


def widgets(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``conn-fields`` of the provider info as wtforms fields.

    Only the field classes that Airflow's form knows are used; of any other it drops the whole form.

    :param fields: Name to ``{"label", "description", "schema"}``.
    """
    # Imported here: Flask's form libraries are only there, and only needed, in the old web server.
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import BooleanField, PasswordField, StringField
    from wtforms.validators import Optional, any_of

    def field(data: Mapping[str, Any]) -> Any:
        schema = data["schema"]
        label, text, default = lazy_gettext(data["label"]), data.get("description", ""), schema.get("default")
        if "boolean" in schema["type"]:
            return BooleanField(label, default=default, description=text)
        if schema.get("format") == "password":
            return PasswordField(label, description=text, widget=BS3PasswordFieldWidget())
        checks = [Optional(), any_of(schema["enum"])] if "enum" in schema else [Optional()]
        shown = None if default is None else str(default)
        return StringField(label, checks, default=shown, description=text, widget=BS3TextFieldWidget())

    return {name: field(data) for name, data in fields.items()}
