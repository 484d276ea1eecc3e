"""The connection forms as the Airflow that is installed makes them, each by its own way: with all that ours say."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from airflow_provider_taskdl.get_provider_info import get_provider_info
from tests import needs
from tests.airflow_versions import AIRFLOW, before, since

FORMS: dict[str, Mapping[str, Any]] = {
    form["connection-type"]: form for form in get_provider_info()["connection-types"]
}

every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@pytest.fixture(scope="module")
def of_api() -> dict[Any, Any]:
    """What the API hands to the web page, by connection type."""
    if AIRFLOW == (3, 0):  # it says so itself: "UI widgets will be missing"
        needs.package("flask_appbuilder", "apache-airflow-providers-fab")
    from airflow import providers_manager
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    if AIRFLOW < (3, 2):  # what an earlier test made Airflow find out, it would not ask for again
        vars(providers_manager)["ProvidersManager"]()._cleanup()
    said: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = said.append  # type: ignore[assignment]
    logging.getLogger().addHandler(handler)
    forms: dict[Any, Any] = {meta.connection_type: meta for meta in HookMetaService.hook_meta_data()}
    logging.getLogger().removeHandler(handler)
    assert [record.getMessage() for record in said if "taskdl" in record.getMessage()] == []
    return forms


@since(3, 0, "the form is made by Flask AppBuilder")
@every_form
def test_the_web_page_gets_all_fields(form: Mapping[str, Any], of_api: dict[Any, Any]) -> None:
    fields = of_api[form["connection-type"]].extra_fields
    assert set(fields) == set(form["conn-fields"])
    for name, said in form["conn-fields"].items():
        schema, got = said["schema"], fields[name]["schema"]
        assert got["title"] == said["label"]
        assert fields[name]["description"] == said["description"]
        assert got.get("format") == schema.get("format")
        assert got.get("enum") == schema.get("enum")
        # Before 3.2 there are neither numbers nor nothing for a check box: all but that is text.
        texts = AIRFLOW < (3, 2)
        default = schema.get("default")
        assert fields[name]["value"] == (default if not texts or default in (None, True) else str(default))
        kind = "boolean" if "boolean" in schema["type"] else "string" if texts else schema["type"][0]
        assert kind in got["type"]


@since(3, 0, "the form is made by Flask AppBuilder")
@every_form
def test_the_web_page_gets_our_names_for_the_standard_fields(form: Mapping[str, Any], of_api: dict[Any, Any]) -> None:
    meta, behaviour = of_api[form["connection-type"]], form["ui-field-behaviour"]
    assert meta.hook_name == form["hook-name"]
    fields = {
        "schema" if name == "url_schema" else name: field for name, field in meta.standard_fields if field is not None
    }
    assert {name for name, field in fields.items() if field.hidden} == set(behaviour["hidden-fields"]) - {"extra"}
    assert {name: field.title for name, field in fields.items() if field.title} == behaviour["relabeling"]
    assert {name: field.placeholder for name, field in fields.items() if field.placeholder} == behaviour["placeholders"]


@pytest.fixture(scope="module")
def of_flask() -> Iterator[Any]:
    """Airflow 2's providers manager, inside an application: its texts are translated when they are read."""
    from airflow import providers_manager
    from flask import Flask
    from flask_babel import Babel

    app = Flask("forms")
    Babel(app)
    with app.test_request_context():
        yield vars(providers_manager)["ProvidersManager"]()


@before(3, 0, "Flask AppBuilder makes no form any more")
@every_form
def test_flasks_form_has_all_fields(form: Mapping[str, Any], of_flask: Any) -> None:
    from wtforms import BooleanField, Form, PasswordField, StringField

    kind = form["connection-type"]
    widgets = {name: info for name, info in of_flask.connection_form_widgets.items() if f"__{kind}__" in name}
    assert {info.field_name for info in widgets.values()} == set(form["conn-fields"])
    page = type("Page", (Form,), {info.field_name: info.field for info in widgets.values()})()
    for name, said in form["conn-fields"].items():
        schema, field = said["schema"], page[name]
        assert str(field.label.text) == said["label"]
        assert field.description == said["description"]
        secret, switch = schema.get("format") == "password", "boolean" in schema["type"]
        assert type(field) is (PasswordField if secret else BooleanField if switch else StringField)
        html = str(field())
        assert f'type="{"password" if secret else "checkbox" if switch else "text"}"' in html
        if not secret and not switch and schema.get("default") is not None:
            assert f'value="{schema["default"]}"' in html


@before(3, 0, "Flask AppBuilder makes no form any more")
@every_form
def test_flasks_form_shows_no_stored_secret(form: Mapping[str, Any], of_flask: Any) -> None:
    from wtforms import Form

    kind = form["connection-type"]
    widgets = [info for name, info in of_flask.connection_form_widgets.items() if f"__{kind}__" in name]
    stored = {info.field_name: "quite-a-secret" for info in widgets if info.is_sensitive}
    assert set(stored) == {name for name, f in form["conn-fields"].items() if f["schema"].get("format") == "password"}
    page = type("Page", (Form,), {info.field_name: info.field for info in widgets})(data=stored)
    assert "quite-a-secret" not in "".join(str(field()) for field in page)


@before(3, 0, "Flask AppBuilder makes no form any more")
@every_form
def test_flasks_form_has_our_names_for_the_standard_fields(form: Mapping[str, Any], of_flask: Any) -> None:
    behaviour, ours = of_flask.field_behaviours[form["connection-type"]], form["ui-field-behaviour"]
    assert set(behaviour["hidden_fields"]) == set(ours["hidden-fields"])
    assert behaviour["relabeling"] == ours["relabeling"]
    placeholders = {name.rpartition("__")[2]: text for name, text in behaviour["placeholders"].items()}
    assert placeholders == ours["placeholders"]
    assert of_flask.hooks[form["connection-type"]].hook_name == form["hook-name"]


@before(3, 0, "Flask AppBuilder makes no form any more")
def test_flasks_form_takes_published_regions_only(of_flask: Any) -> None:
    from werkzeug.datastructures import MultiDict
    from wtforms import Form

    info = of_flask.connection_form_widgets["extra__baidu_bls__region"]
    page = type("Page", (Form,), {"region": info.field})
    regions = FORMS["baidu_bls"]["conn-fields"]["region"]["schema"]["enum"]
    assert all(page(MultiDict({"region": region})).validate() for region in (*regions, ""))
    assert not page(MultiDict({"region": "nowhere"})).validate()
