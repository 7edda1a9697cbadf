"""How the open files of a process are shared out between files, other members and the planes."""

import pytest

from wavekv.cli.planes import planes_of
from wavekv.config import Limits, MemberSettings
from wavekv.errors import UsageError
from wavekv.plane_settings import DescriptorSettings
from wavekv.runtime.budget import budgets_of
from wavekv.runtime.descriptors import Shares, share_out

SETTINGS = DescriptorSettings()
WANTED = Shares(20_480, 4096, 2048, 128, 200)


@pytest.mark.parametrize("limit", [192, 256, 512, 1024, 4096, 20_000, 27_047, 65_536, 1 << 20])
def test_the_bounds_of_all_planes_fit_what_files_and_members_leave(limit: int) -> None:
    shares = share_out(limit, WANTED, SETTINGS)
    assert sum(shares) + SETTINGS.files_reserved <= limit
    assert all(0 < share <= most for share, most in zip(shares, WANTED, strict=True))
    assert shares.metrics >= SETTINGS.metrics_least


def test_with_files_enough_each_plane_has_what_it_wants() -> None:
    assert share_out(sum(WANTED) + SETTINGS.files_reserved, WANTED, SETTINGS) == WANTED


def test_too_few_for_a_member_are_refused_with_the_number_it_needs() -> None:
    with pytest.raises(UsageError, match="may open 100 files; allow it 183 at least"):
        share_out(100, WANTED, SETTINGS)
    share_out(183, WANTED, SETTINGS)


def test_a_member_under_a_low_limit_has_smaller_planes(tmp_path: object) -> None:
    settings = MemberSettings(data_dir=tmp_path)  # type: ignore[arg-type]
    planes = planes_of(settings, budgets_of(Limits()), 512, lambda: 0.0)
    bounds = [plane.settings.connections_max for plane in (planes.http, planes.peer, planes.metrics)]
    assert sum(bounds) + planes.limits.resp_connections_max + 2 * planes.transport_connections_max <= 512 - 96
    assert planes.http.settings.per_address_max == bounds[0], "loopback alone may have all of it"
    assert planes.peer.settings.per_address_max == bounds[1] // 2, "no address has all of the peer plane"
    assert planes.metrics.settings.per_address_max <= bounds[2] // 2
