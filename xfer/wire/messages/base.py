"""What every message is: an immutable struct whose annotations say what its keys may hold."""

import msgspec


class Object(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An object on the wire, each field of which is the key of the same name.

    Annotations hold for what comes in. What is made here is left to the type checker.
    """


class Message(Object, frozen=True, tag_field="type"):
    """What travels in a frame."""

    @property
    def type(self) -> str:
        """The value of the key that says which message this is."""
        return type_of(type(self))


def type_of(kind: type[Message]) -> str:
    """The `type` of every message of this kind."""
    return str(kind.__struct_config__.tag)
