"""Which GPUs a lease gets: neighbours, and what keeps groups of neighbours whole."""

from itertools import combinations

import pytest

from pytest_vdb.parallel.lease import Lease
from pytest_vdb.parallel.topology import nearness, neighbours

SOCKET, SWITCH, NODES = 40, 10, 50  # NVML's levels of a common ancestor


def wired(groups, nvlinks=0, inside=SWITCH, outside=NODES):
    """A machine whose devices (letters) are near each other by groups."""
    return {
        frozenset(pair): nearness(nvlinks, inside)
        if any(set(pair) <= set(group) for group in groups)
        else nearness(0, outside)
        for pair in combinations("".join(groups), 2)
    }


PAIRS = wired(["ab", "cd"], nvlinks=4)  # four cards with two bridges
BOARDS = wired(["abcd", "efgh"], inside=SWITCH)  # eight on two PCIe switches
SWITCHED = wired(["abcdefgh"], nvlinks=18)  # all by an NVSwitch


@pytest.mark.parametrize(
    ("free", "links", "count", "chosen"),
    [
        ("abcd", PAIRS, 2, "ab"),
        ("acbd", PAIRS, 2, "ab"),
        ("bcd", PAIRS, 2, "cd"),  # the broken pair is no pair
        ("acd", PAIRS, 1, "a"),  # its neighbour is taken: nobody misses it
        ("abd", PAIRS, 1, "d"),
        ("ac", PAIRS, 2, "ac"),  # far apart, and all there is
        ("abcd", PAIRS, 4, "abcd"),
        ("abcdefgh", BOARDS, 4, "abcd"),
        ("abcefgh", BOARDS, 4, "efgh"),
        ("abcefgh", BOARDS, 2, "ab"),  # out of the broken four
        ("bcdefgh", BOARDS, 1, "b"),
        ("abefgh", BOARDS, 2, "ab"),
        ("abefgh", BOARDS, 3, "efg"),
        ("bdfh", SWITCHED, 2, "bd"),  # all alike: the first ones
        ("abcd", {}, 2, "ab"),
        ("abcdefghijklmnopqrst", PAIRS, 2, "ab"),  # too many to compare
    ],
)
def test_the_choice(free, links, count, chosen):
    assert "".join(sorted(neighbours(free, links, count))) == chosen


def test_one_nvlink_is_nearer_than_any_way_without():
    assert nearness(1, NODES) > nearness(0, 0)
    assert nearness(0, SWITCH) > nearness(0, SOCKET) > nearness(0, NODES) == 0


@pytest.mark.parametrize("wide", [2, 4])
def test_single_leases_leave_room_for_a_wide_one(wide):
    """Four of eight GPUs are taken one by one, and given back in any order."""
    devices = tuple("aebfcgdh")  # the order alone would take from both boards in turn
    for first, second in combinations(range(4), 2):
        taken = []
        for _ in range(4):
            free = [device for device in devices if device not in taken]
            taken += neighbours(free, BOARDS, 1)
        del taken[second], taken[first]
        left = [device for device in devices if device not in taken]
        group = neighbours(left, BOARDS, wide)
        assert {*group} <= {*"abcd"} or {*group} <= {*"efgh"}


def test_a_lease_takes_neighbours_and_leaves_pairs_alone(tmp_path):
    def lease(count):
        return Lease(count, tuple("acbd"), wait=0, folder=tmp_path, links=PAIRS)

    with lease(1) as first:
        assert first.devices == ("a",)
        with lease(1) as second, lease(2) as pair:
            assert second.devices == ("b",)
            assert pair.devices == ("c", "d")
        with lease(2) as pair:
            assert pair.devices == ("c", "d")
    with lease(2) as pair:
        assert pair.devices == ("a", "b")
