"""Sockets are opened, or the refusal names the address and what to do."""

import logging
import socket
import stat
from pathlib import Path

import pytest

from wavekv.config import Address
from wavekv.errors import AddressUnavailable, PortTaken, UsageError
from wavekv.runtime import listening
from wavekv.runtime.listening import (
    UNIX_PATH_BYTES_MAX,
    check_loopback,
    open_loopback,
    open_public,
    open_tcp,
    open_unix,
)

ANY_PORT = Address("127.0.0.1", 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_addresses_are_accepted(host: str) -> None:
    check_loopback([Address(host, 1)])


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "example.test", "::ffff:10.0.0.1", ""])
def test_an_address_that_others_may_reach_is_refused_by_name(host: str) -> None:
    address = Address(host, 7070)
    with pytest.raises(UsageError) as refused:
        open_loopback([ANY_PORT, address])
    assert str(address) in refused.value.detail


def test_a_listening_socket_does_not_block_and_takes_connections() -> None:
    with open_tcp(ANY_PORT) as listener:
        assert not listener.getblocking()
        socket.create_connection(listener.getsockname()).close()


def test_a_taken_port_is_refused_by_address_and_nothing_stays_open() -> None:
    with open_tcp(ANY_PORT) as taken, open_tcp(ANY_PORT) as probe:
        free = probe.getsockname()[1]
        probe.close()
        wanted = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(PortTaken, match=str(wanted)):
            open_loopback([Address("127.0.0.1", free), wanted])
        open_tcp(Address("127.0.0.1", free)).close()


def test_all_addresses_are_those_of_both_families() -> None:
    opened = open_public(Address("", 0))
    try:
        ports = {listener.getsockname()[1] for listener in opened}
        assert len(ports) == 1
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, *ports)).close()
    finally:
        for listener in opened:
            listener.close()


@pytest.mark.parametrize("lacking", [{"::"}, {"0.0.0.0"}])
def test_a_family_that_the_machine_lacks_is_passed_over(lacking: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    really = listening.open_tcp

    def opens(address: Address, flag: str = "") -> socket.socket:
        if address.host in lacking:
            raise AddressUnavailable(f"cannot listen on {address}")
        return really(address, flag)

    monkeypatch.setattr(listening, "open_tcp", opens)
    (only,) = open_public(Address("", 0))
    only.close()
    lacking |= {"::", "0.0.0.0"}
    with pytest.raises(AddressUnavailable):
        open_public(Address("", 0))


def test_a_port_that_is_taken_in_one_family_is_refused_and_nothing_stays_open() -> None:
    with open_tcp(Address("::1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"^--peer-listen .*:{port} is taken"):
            open_public(Address("", port), "--peer-listen")
        open_tcp(Address("127.0.0.1", port)).close()


def test_an_address_that_no_interface_has_is_refused() -> None:
    with pytest.raises(AddressUnavailable, match=r"192\.0\.2\.1"):
        open_tcp(Address("192.0.2.1", 0))


def test_a_taken_port_is_refused_by_the_flag_that_gave_it() -> None:
    with open_tcp(ANY_PORT) as taken:
        wanted = Address("127.0.0.1", taken.getsockname()[1])
        said = f"^--listen {wanted} is taken; stop what listens there, or give another$"
        with pytest.raises(PortTaken, match=said):
            open_loopback([wanted], "--listen")
        with pytest.raises(PortTaken, match=f"^{wanted} is taken"):
            open_tcp(wanted)


def without_ipv6(address: Address, flag: str) -> socket.socket:
    if ":" in address.host:
        raise AddressUnavailable("no IPv6 here")
    return open_tcp(address, flag)


def test_a_missing_ipv6_loopback_is_skipped_with_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listening, "open_tcp", without_ipv6)
    with caplog.at_level(logging.INFO):
        (only,) = open_loopback([ANY_PORT, Address("::1", 0)])
    only.close()
    assert "[::1]:0" in caplog.text


def test_a_missing_ipv6_loopback_is_refused_where_it_is_the_only_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "open_tcp", without_ipv6)
    with pytest.raises(AddressUnavailable):
        open_loopback([Address("::1", 0)])


def test_a_name_that_does_not_resolve_is_refused() -> None:
    with pytest.raises(UsageError, match="does not resolve"):
        open_tcp(Address("name." + "x" * 64, 0))


def test_a_unix_socket_has_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with open_unix(path, 0o640):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_the_file_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    open_unix(path, 0o660).close()
    assert path.exists()
    with open_unix(path, 0o660), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_the_socket_of_a_living_process_is_refused_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with open_unix(path, 0o660), socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(PortTaken, match=str(path)):
            open_unix(path, 0o660)
        client.connect(str(path))


def test_a_file_that_is_no_socket_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(UsageError, match="not a socket"):
        open_unix(path, 0o660)
    assert path.read_text() == "precious"


def test_a_path_of_the_longest_length_opens_and_a_longer_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the temporary folder's own path has any length
    open_unix(Path("s" * UNIX_PATH_BYTES_MAX), 0o660).close()
    with pytest.raises(UsageError, match=f"{UNIX_PATH_BYTES_MAX + 1} bytes"):
        open_unix(Path("s" * (UNIX_PATH_BYTES_MAX + 1)), 0o660)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        open_unix(tmp_path / "none" / "s", 0o660)
