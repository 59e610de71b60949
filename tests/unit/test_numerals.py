"""What callers write as a number is one within bounds, or is refused."""

import pytest

from ingest_web.numerals import whole_number


@pytest.mark.parametrize("given", ["", "0", "101", "-1", "+1", "1.0", " 1", "1_0", "²", "٣", "1" * 5000])
def test_anything_else_is_no_number(given):
    """Also 5,000 digits, at which ``int`` raises."""
    assert whole_number(given, 100) is None


@pytest.mark.parametrize(("given", "number"), [("1", 1), ("100", 100), ("007", 7)])
def test_both_ends_count(given, number):
    """From 1 to the most."""
    assert whole_number(given, 100) == number
