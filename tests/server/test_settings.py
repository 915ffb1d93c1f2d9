"""The settings that a receiver, its workers, its check and its units share."""

import inspect

from msgspec import structs

import xfer
from xfer.server.settings import ReceiverSettings
from xfer.storage.contract import Limits


def test_they_are_the_options_of_the_library_s_receiver_with_the_same_defaults() -> None:
    options = inspect.signature(xfer.Receiver).parameters
    settings = {field.name: field for field in structs.fields(ReceiverSettings)}
    assert set(settings) - {"workers"} == set(options) - {"secret", "listening", "on_receipt"}
    for name in set(settings) - {"workers", "directory", "limits"}:
        assert settings[name].default == options[name].default, name
    assert ReceiverSettings(directory="d").limits == Limits()


def test_the_limits_of_connections_are_part_of_them() -> None:
    settings = ReceiverSettings(
        directory="d", max_unauthenticated=3, max_connections=4, min_rate=5, bwlimit=6
    )
    limits = settings.connection_limits
    assert (limits.max_unauthenticated, limits.max_connections) == (3, 4)
    assert (limits.min_rate, limits.bwlimit) == (5, 6)
