"""One file a method: what trains, its loss and what it saves."""
