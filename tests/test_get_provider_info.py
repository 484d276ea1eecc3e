"""What Airflow discovers must be valid, true, and agree with the hooks."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.providers.common.compat.sdk import redact
from pydantic import SecretStr

import airflow_provider_taskdl.get_provider_info as module
from airflow_provider_taskdl.apis.bls import DEFAULT_REGION, REGIONS
from airflow_provider_taskdl.get_provider_info import get_provider_info
from airflow_provider_taskdl.hooks.base import TaskApiHook
from tests import airflow_versions

DISTRIBUTION = "airflow-provider-taskdl"
AIRFLOW = Path(airflow.__path__[0])
INFO = get_provider_info()
MODULES = ["hooks", "sensors", "operators", "triggers"]
FORMS: dict[str, Mapping[str, Any]] = {form["connection-type"]: form for form in INFO["connection-types"]}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    name: str = request.param
    return FORMS[name]


@pytest.fixture
def hook_class(form: Mapping[str, Any]) -> type[TaskApiHook]:
    found = load(form["hook-class-name"])
    assert isinstance(found, type)
    assert issubclass(found, TaskApiHook)
    return found


def load(path: str) -> Any:
    name, _, attribute = path.rpartition(".")
    return getattr(importlib.import_module(name), attribute)


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((AIRFLOW / name).read_text())
    return loaded


def test_airflow_accepts_it_at_run_time() -> None:
    jsonschema.validate(INFO, schema("provider_info.schema.json"))


def test_it_is_what_an_official_provider_would_declare() -> None:
    declared = schema("provider.yaml.schema.json")
    parts = {name: INFO[name] for name in INFO if name in declared["properties"]}
    assert {"connection-types", "integrations", "hooks", "sensors", "operators", "triggers", "extra-links"} <= set(
        parts
    )
    jsonschema.validate(parts, {**declared, "required": []})


def test_the_installed_distribution_points_here() -> None:
    points = importlib.metadata.distribution(DISTRIBUTION).entry_points
    [point] = points.select(group="apache_airflow_provider")
    assert point.load() is get_provider_info
    assert INFO["package-name"] == DISTRIBUTION


def test_every_call_gives_equal_data() -> None:
    assert get_provider_info() == INFO


def test_reading_it_imports_nothing() -> None:
    tree = ast.parse(Path(str(module.__file__)).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imports] == ["from typing import Any"]


@pytest.mark.parametrize("kind", MODULES)
def test_named_modules_import(kind: str) -> None:
    names = {integration["integration-name"] for integration in INFO["integrations"]}
    for entry in INFO[kind]:
        assert entry["integration-name"] in names
        for python_module in entry["python-modules"]:
            importlib.import_module(python_module)


@pytest.mark.parametrize("path", INFO["extra-links"])
def test_extra_links_can_be_made(path: str) -> None:
    assert load(path)().name


def test_hook_and_connection_type_agree(form: Mapping[str, Any], hook_class: type[TaskApiHook]) -> None:
    assert hook_class.conn_type == form["connection-type"]
    assert hook_class.hook_name == form["hook-name"]
    assert hook_class.default_conn_name == f"{form['connection-type']}_default"
    # Airflow makes a hook from a connection in just this way.
    hook = hook_class(**{hook_class.conn_name_attr: "some_connection"})
    assert hook.conn_id == "some_connection"


def test_fields_are_the_extras_that_the_hook_reads(form: Mapping[str, Any], hook_class: type[TaskApiHook]) -> None:
    assert set(form["conn-fields"]) == set(hook_class.extras_model.model_fields)


def test_an_untouched_form_says_the_defaults(form: Mapping[str, Any], hook_class: type[TaskApiHook]) -> None:
    # Airflow stores every field of a new connection: its default, or null.
    stored = {name: field["schema"].get("default") for name, field in form["conn-fields"].items()}
    assert hook_class.extras_model.model_validate(stored) == hook_class.extras_model()


def test_no_field_is_required(form: Mapping[str, Any]) -> None:
    for field in form["conn-fields"].values():
        assert "null" in field["schema"]["type"]


def test_every_field_explains_itself(form: Mapping[str, Any]) -> None:
    for field in form["conn-fields"].values():
        assert field["label"]
        assert field["description"]


def test_secrets_are_hidden_in_the_form_and_by_name(form: Mapping[str, Any], hook_class: type[TaskApiHook]) -> None:
    secret = {name for name, info in hook_class.extras_model.model_fields.items() if _holds_secret(info.annotation)}
    assert secret >= {"proxy"}
    assert secret == {
        name for name, field in form["conn-fields"].items() if field["schema"].get("format") == "password"
    }
    # Airflow's API shows an extra in clear unless its key has one of the names it knows. 3.0 knows fewer.
    shown = {name for name in secret if redact({name: "quite-a-secret"}) != {name: "***"}}
    assert shown == ({"proxy"} if airflow_versions.AIRFLOW == (3, 0) else set())


def _holds_secret(annotation: object) -> bool:
    return annotation is SecretStr or SecretStr in getattr(annotation, "__args__", ())


def test_regions_are_the_api_s() -> None:
    region = FORMS["baidu_bls"]["conn-fields"]["region"]["schema"]
    assert region["enum"] == list(REGIONS)
    assert region["values_display"] == {code: f"{code}: {place}" for code, place in REGIONS.items()}
    assert region["default"] == DEFAULT_REGION


def test_fields_that_mean_nothing_are_hidden() -> None:
    hidden = {kind: set(form["ui-field-behaviour"]["hidden-fields"]) for kind, form in FORMS.items()}
    token = {"schema", "login", "extra"}
    assert hidden == {"baidu_bls": {"schema", "extra"}, "eo_analysis": token, "eo_market": token}


class _Field:
    """Stands for a field class of wtforms: remembers what it was made with."""

    def __init__(self, label: str, validators: Any = (), **settings: Any) -> None:
        self.label, self.validators, self.settings = label, list(validators), settings


class _Boolean(_Field):
    pass


class _Password(_Field):
    pass


class _String(_Field):
    pass


@pytest.fixture
def old_web_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the modules of Airflow's old form exactly the names it offers to hooks."""
    names: dict[str, dict[str, Any]] = {
        "wtforms": {"BooleanField": _Boolean, "PasswordField": _Password, "StringField": _String},
        "wtforms.validators": {"Optional": lambda: "optional", "any_of": lambda values: ("any of", values)},
        "flask_babel": {"lazy_gettext": lambda text: text},
        "flask_appbuilder": {},
        "flask_appbuilder.fieldwidgets": {"BS3TextFieldWidget": object, "BS3PasswordFieldWidget": object},
    }
    for name, attributes in names.items():
        fake = ModuleType(name)
        vars(fake).update(attributes)
        monkeypatch.setitem(sys.modules, name, fake)


@pytest.mark.usefixtures("old_web_server")
def test_the_classic_form_has_the_same_fields(form: Mapping[str, Any], hook_class: type[TaskApiHook]) -> None:
    made = hook_class.get_connection_form_widgets()
    assert list(made) == list(form["conn-fields"])
    kinds = {"boolean": _Boolean, "password": _Password}
    for name, field in form["conn-fields"].items():
        kind = field["schema"].get("format") or field["schema"]["type"][0]
        assert type(made[name]) is kinds.get(kind, _String)
        assert made[name].label == field["label"]
        assert made[name].settings["description"] == field["description"]


@pytest.mark.usefixtures("old_web_server")
def test_an_untouched_classic_form_says_the_defaults(hook_class: type[TaskApiHook]) -> None:
    stored = {name: field.settings.get("default") for name, field in hook_class.get_connection_form_widgets().items()}
    assert hook_class.extras_model.model_validate(stored) == hook_class.extras_model()


@pytest.mark.usefixtures("old_web_server")
def test_the_classic_form_offers_the_regions() -> None:
    hook_class: type[TaskApiHook] = load(FORMS["baidu_bls"]["hook-class-name"])
    assert hook_class.get_connection_form_widgets()["region"].validators == ["optional", ("any of", list(REGIONS))]


def test_the_classic_form_has_the_same_labels(form: Mapping[str, Any], hook_class: type[TaskApiHook]) -> None:
    behaviour = form["ui-field-behaviour"]
    assert hook_class.get_ui_field_behaviour() == {
        "hidden_fields": behaviour["hidden-fields"],
        "relabeling": behaviour["relabeling"],
        "placeholders": behaviour["placeholders"],
    }


def test_old_airflow_finds_the_form_in_the_class_itself(hook_class: type[TaskApiHook]) -> None:
    for name in ("get_connection_form_widgets", "get_ui_field_behaviour"):
        assert inspect.ismethod(getattr(hook_class, name))
        assert name in vars(hook_class)


def test_a_hook_may_bring_its_own_form() -> None:
    class OwnForm(TaskApiHook):
        conn_type = "of_its_own"

        @classmethod
        def get_connection_form_widgets(cls) -> dict[str, Any]:
            return {"colour": None}

    assert OwnForm.get_connection_form_widgets() == {"colour": None}
    assert OwnForm.get_ui_field_behaviour() == {}
