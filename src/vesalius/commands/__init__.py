"""The commands, one file a stage: each parses, calls the API and prints. No logic, no heavy imports.

`@options` over a command makes options of every parameter whose type is a settings dataclass of a room's
`settings.py`, and calls the command with the dataclass: see `options.py`, and `pairs.py` as an example.
"""
