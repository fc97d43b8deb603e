"""Every remedy that can be taken out to prove its test stands where `make prove-tests` looks."""

import pytest

from tests.system.remedies import REMEDIES, Remedy
from tests.system.workshop import CHECKOUT


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.against)
def test_a_remedy_stands_once_in_its_file(remedy: Remedy) -> None:
    assert (CHECKOUT / remedy.file).read_text("utf-8").count(remedy.old) == 1
    assert (CHECKOUT / remedy.test.partition("::")[0]).is_file()
