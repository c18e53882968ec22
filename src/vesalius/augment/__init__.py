"""From a table of real images to an answer: fine-tune, generate, judge, in one resumable command."""

from vesalius.core.callable_room import callable_as

callable_as(__name__, "vesalius.augment.run:augment")
