"""Do the synthetic images make a classifier better? Arms, and the statistics that compare them."""

from vesalius.core.callable_room import callable_as

callable_as(__name__, "vesalius.utility.run:utility")
