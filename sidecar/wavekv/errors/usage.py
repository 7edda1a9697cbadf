"""Errors of settings and of the command line."""

from wavekv.errors.base import WaveKVError


class UsageError(WaveKVError):
    """A flag, environment variable or file that a person has to correct."""

    code = "usage"
    exit_code = 2


class PortTaken(UsageError):
    code = "port_taken"
    exit_code = 1


class AddressUnavailable(UsageError):
    """No interface of this machine has the address to listen on."""

    code = "address_unavailable"
