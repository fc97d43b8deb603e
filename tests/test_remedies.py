"""The table of `make prove-tests` fits the tree: a remedy that is not found would not be tried."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.system.remedies import REMEDIES, Remedy

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.against)
def test_a_remedy_stands_once_and_its_test_is_there(remedy: Remedy) -> None:
    assert (ROOT / remedy.file).read_text("utf-8").count(remedy.old) == 1
    assert remedy.new != remedy.old
    file, _, name = remedy.test.partition("::")
    wanted = rf"def {name.partition('[')[0]}\b" if name else r"def test_"
    assert re.search(wanted, (ROOT / file).read_text("utf-8"))
