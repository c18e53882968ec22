"""Packages that are functions too: `vesalius.train(...)` beside `vesalius.train.run`.

A stage's package and the function that is its arrow of the data flow have one name, and Python binds the
name to the package when anything in it is imported. So the package itself can be called.
"""

import sys
from importlib import import_module
from inspect import Signature, signature
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    function_of: str  # "module:function"

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return self._function()(*args, **settings)

    @property
    def __signature__(self) -> Signature:  # what notebooks and `help` show
        return signature(self._function())

    def _function(self) -> Any:
        module, _, name = self.function_of.partition(":")
        return getattr(import_module(module), name)


def callable_as(package: str, function: str) -> None:
    """Let the package `package` be called as `function`, given as "module:function"."""
    module = sys.modules[package]
    module.__class__ = _Room
    module.function_of = function  # pyright: ignore[reportAttributeAccessIssue]
