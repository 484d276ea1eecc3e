"""Airflow's UI, as a person uses it."""

from __future__ import annotations

import json
import re
from typing import Any

from playwright.sync_api import Locator, Page, expect


class Form:
    """The dialog in which a connection is added or edited.

    :param dialog: The dialog.
    """

    def __init__(self, dialog: Locator) -> None:
        self.dialog = dialog
        self.page = dialog.page

    def choose_type(self, name: str) -> None:
        """Choose what the connection leads to."""
        self.dialog.get_by_role("combobox", name="Connection Type").click()
        self.page.get_by_role("option", name=name, exact=True).click()
        expect(self.section.get_by_text("Description", exact=True)).to_be_visible()

    @property
    def section(self) -> Locator:
        """The part of the form that is open."""
        return self.dialog.get_by_role("region")

    def open(self, title: str) -> None:
        """Open another part: ``Standard Fields``, ``Extra Fields`` or ``Extra Fields JSON``."""
        button = self.dialog.get_by_role("button", name=title, exact=True)
        if button.get_attribute("aria-expanded") != "true":
            button.click()
        expect(button).to_have_attribute("aria-expanded", "true")
        expect(self.section).to_have_count(1)

    def labels(self) -> list[str]:
        """Return the labels of the open part, from top to bottom."""
        return [text for text in self.section.locator("label").all_inner_texts() if text]

    def field(self, label: str) -> Locator:
        """Return a field with all that belongs to it."""
        return self.section.get_by_role("group").filter(has=self.page.get_by_text(label, exact=True))

    def input(self, label: str) -> Locator:
        """Return the part of a field that holds its value."""
        return self.field(label).locator("input:visible, textarea:visible, input[type=checkbox]").first

    def fill(self, fields: dict[str, str]) -> None:
        """Fill in fields of the open part: label to value."""
        for label, value in fields.items():
            self.input(label).fill(value)
            self.input(label).blur()

    def choose(self, label: str, option: str) -> None:
        """Choose from a drop-down."""
        self.field(label).get_by_role("combobox").click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def options(self, label: str) -> list[str]:
        """Return what a drop-down offers; leaves it open."""
        self.field(label).get_by_role("combobox").click()
        expect(self.page.get_by_role("option").first).to_be_visible()
        return self.page.get_by_role("option").all_inner_texts()

    def write_json(self, extra: dict[str, Any]) -> None:
        """Write the extra fields as text."""
        self.section.locator(".view-lines").click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(json.dumps(extra))
        self.page.keyboard.press("ControlOrMeta+Shift+End")  # brackets that the editor closed by itself
        self.page.keyboard.press("Delete")
        self.dialog.get_by_role("heading").click()

    def save(self) -> None:
        """Save, and wait until that is done."""
        self.dialog.get_by_role("button", name="Save").click()
        expect(self.dialog).to_have_count(0)


class Connections:
    """The page of connections.

    :param page: A tab.
    :param url: Airflow's address.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = f"{url}/connections"

    def open(self) -> Connections:
        """Go there; notices of earlier deeds are gone."""
        self.page.goto(self.url)
        expect(self.page.get_by_role("heading", name=re.compile("Connections?$"))).to_be_visible()
        return self

    def add(self) -> Form:
        """Open the empty form."""
        self.page.get_by_role("button", name="Add Connection").click()
        return Form(self.page.get_by_role("dialog"))

    def row(self, conn_id: str) -> Locator:
        """Return a connection's row."""
        cell = self.page.get_by_role("cell", name=conn_id, exact=True)
        return self.page.get_by_role("row").filter(has=cell)

    def edit(self, conn_id: str) -> Form:
        """Open the form of a connection."""
        self.row(conn_id).get_by_role("button", name="Edit Connection").click()
        form = Form(self.page.get_by_role("dialog"))
        expect(form.section.get_by_text("Description", exact=True)).to_be_visible()
        return form

    def test(self, conn_id: str) -> tuple[str, str]:
        """Press the button that tests a connection, and return title and text of what the page says then."""
        self.open()
        self.row(conn_id).get_by_role("button", name="Test Connection").click()
        notice = self.page.get_by_role("status").filter(has_text="Test Connection")
        expect(notice).to_be_visible()
        title, _, text = notice.inner_text().partition("\n")
        return title, text


def shown(page: Page) -> str:
    """Return all that a page holds: its elements, and what its fields hold."""
    fields: list[Any] = page.locator("input, textarea").evaluate_all("all => all.map(one => one.value)")
    return page.content() + json.dumps(fields, ensure_ascii=False)
