"""Lets timm be imported where torchvision is not installed.

timm imports names from torchvision for its image transforms, which nothing
here uses. In their place stand classes that do nothing. Not a replacement: a
torchvision that is installed is left alone.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types


class _AnyName(type):
  """A class whose every attribute is one more such class."""

  def __getattr__(cls, name: str):
    if name.startswith('__'):
      raise AttributeError(name)
    return _AnyName(name, (), {})


class _Module(types.ModuleType):
  """A module that has every name."""

  def __getattr__(self, name: str):
    return getattr(_AnyName(self.__name__, (), {}), name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
  """Finds torchvision and everything below it."""

  def find_spec(self, fullname, path=None, target=None):
    if fullname.partition('.')[0] != 'torchvision':
      return None
    return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

  def create_module(self, spec):
    return _Module(spec.name)

  def exec_module(self, module):
    pass


def install() -> None:
  """Stands in for torchvision from now on, unless it is installed."""
  if importlib.util.find_spec('torchvision') is None:
    sys.meta_path.append(_Finder())
