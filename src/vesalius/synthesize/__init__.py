"""From a plan to a set of synthetic images, by any number of workers."""

from vesalius.core.callable_room import callable_as

callable_as(__name__, "vesalius.synthesize.engine:synthesize")
