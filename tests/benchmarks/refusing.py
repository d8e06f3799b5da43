"""Runs Python as on a machine that lacks packages."""

import subprocess
import sys

from tests.documents import ROOT

# What a machine with a GPU often lacks, beside ml_collections.
MISSING = (
  *('tensorflow', 'clu', 'grain', 'array_record', 'tensorflow_datasets'),
  *('simplejpeg', 'portpicker', 'blake3', 'h5py', 'torch', 'timm'),
)
_REFUSING = """
import importlib.abc, sys

class Refusing(importlib.abc.MetaPathFinder):
  def find_spec(self, name, path=None, target=None):
    if name.partition('.')[0] in {packages}:
      raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Refusing())
"""


def run_refusing(
  packages: tuple[str, ...], program: str, *words: str, said: str = ''
) -> str:
  """Returns what a program writes to stdout where packages are missing.

  Args:
    packages: names of packages that cannot be imported.
    program: text of the Python program to run.
    *words: words of its command line.
    said: text that it reads from stdin.
  """
  refusing = _REFUSING.replace('{packages}', repr(set(packages)))
  return subprocess.run(
    [sys.executable, '-c', refusing + program, *words],
    cwd=ROOT,
    check=True,
    input=said,
    stdout=subprocess.PIPE,
    text=True,
  ).stdout
