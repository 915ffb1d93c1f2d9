"""What every message is: an immutable struct whose annotations say what its keys may hold."""

import msgspec


class Object(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An object on the wire, each field of which is the key of the same name.

    msgspec checks the annotations, sizes and patterns included, when it decodes
    an object, not when this program makes one: that is the type checker's.

    `gc=False`: none of them can be part of a reference cycle, so the collector
    need not visit them.
    """


class Message(Object, frozen=True, tag_field="type"):
    """What a frame carries. Its key `type` says which message it is."""

    @property
    def type(self) -> str:
        """The value of its key `type`."""
        return type_of(type(self))


def type_of(kind: type[Message]) -> str:
    """The value of the key `type` in every message of this kind."""
    return str(kind.__struct_config__.tag)
