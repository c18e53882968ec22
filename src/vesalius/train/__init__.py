"""One training loop; a method says what is trained, how the loss is taken and what is saved."""

from vesalius.core.callable_room import callable_as

callable_as(__name__, "vesalius.api:train")
