"""Every wrong document is refused with one line: its place, what is wrong, and the fix."""

from __future__ import annotations

import io

import pytest

from phasesync.adapters.project_files.read import read_projects
from phasesync.core.project.expand import check_references
from phasesync.errors import DocumentError
from tests.support.wrong_documents import WRONG, WrongDocument


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_a_wrong_document_is_refused_with_its_place_and_the_fix(wrong: WrongDocument) -> None:
    with pytest.raises(DocumentError) as caught:
        check_references(read_projects(["-"], stdin=io.BytesIO(wrong.data)), existing={})

    (line,) = caught.value.problems
    assert line.startswith(f"<stdin>:{wrong.place}: ")
    assert wrong.what in line and wrong.fix in line
    assert wrong.unsaid is None or wrong.unsaid not in line


def test_the_table_has_a_hundred_documents_of_different_names() -> None:
    assert len({wrong.name for wrong in WRONG}) == len(WRONG) >= 100
