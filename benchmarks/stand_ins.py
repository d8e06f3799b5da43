"""Lets a package be imported that is not installed, where nothing of it runs.

timm imports names from torchvision for its image transforms, and training
imports what reads data and writes curves; a program that needs none of that
need not have it. In their place stand classes that do nothing. Not a
replacement: a package that is installed is left alone.
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
  """Finds some packages and everything below them."""

  def __init__(self, packages: frozenset[str]):
    self._packages = packages

  def find_spec(self, fullname, path=None, target=None):
    if fullname.partition('.')[0] not in self._packages:
      return None
    return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

  def create_module(self, spec):
    return _Module(spec.name)

  def exec_module(self, module):
    pass


def is_installed(package: str) -> bool:
  """Returns whether a package can be imported; imports nothing.

  Args:
    package: name of the package, without a dot.
  """
  if package in sys.modules:
    return True
  try:
    return importlib.util.find_spec(package) is not None
  except ModuleNotFoundError:  # Of what was put first to refuse it.
    return False


def install(*packages: str) -> tuple[str, ...]:
  """Stands in, from now on, for those packages that are not installed.

  Args:
    *packages: names of packages, without dots.

  Returns:
    The names that it stands in for.
  """
  missing = tuple(name for name in packages if not is_installed(name))
  if missing:
    sys.meta_path.insert(0, _Finder(frozenset(missing)))
  return missing
