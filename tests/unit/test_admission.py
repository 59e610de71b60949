"""How many streams a process holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_web.admission import SPARE_FILES, Admission, NoSeat


def test_a_process_is_full_at_its_bound_and_has_room_again_when_one_leaves():
    """The bound holds at every moment, and a seat that is given back is free."""
    seats = Admission(most=2, most_per_address=0)
    seats.take("a")
    seats.take("b")
    with pytest.raises(NoSeat):
        seats.take("c")
    seats.give_back("a")
    seats.take("c")
    assert seats.taken == 2


def test_one_address_does_not_take_the_seats_of_others():
    """The bound of an address concerns that address alone."""
    seats = Admission(most=10, most_per_address=1)
    seats.take("a")
    with pytest.raises(NoSeat):
        seats.take("a")
    seats.take("b")


def test_the_bound_follows_the_files_that_may_be_open():
    """A process never admits more than it has descriptors for."""
    seats = Admission(most=5000, most_per_address=0)
    assert not seats.keep_within(5000 + SPARE_FILES)
    assert seats.keep_within(1000 + SPARE_FILES)
    assert seats.most == 1000


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_seats_are_counted_truly_whatever_comes_and_goes(steps):
    """Taken is what was admitted less what left, each once, and no bound is ever passed."""
    seats = Admission(most=4, most_per_address=2)
    held: list[str] = []
    for address, comes in steps:
        if comes:
            if len(held) < 4 and held.count(address) < 2:
                seats.take(address)
                held.append(address)
            else:
                with pytest.raises(NoSeat):
                    seats.take(address)
        elif held:
            seats.give_back(held.pop(0))
        assert seats.taken == len(held)
