"""Evidence whether a synthetic set is faithful, follows its labels and copies nobody."""

from vesalius.core.callable_room import callable_as

callable_as(__name__, "vesalius.evaluate.run:evaluate")
