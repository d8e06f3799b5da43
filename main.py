"""Trains a CoAtNet: flags and process start-up, then `train.py`.

    python main.py --config=configs/quickstart.py --workdir=/tmp/quickstart

Any key of the config can be changed: --config.training.num_epochs=2
"""

import os
import re
import sys
import traceback

# Keeps TensorFlow quiet, which only writes TensorBoard files here.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

from absl import app, flags
from ml_collections import config_flags

from coatnet_jax.errors import UserError
from coatnet_jax.library_noise import silence_libraries

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'File with the run: configs/quickstart.py, for example.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Directory for checkpoints, logs and results.'
)


def main(argv: list[str]) -> None:
  """Trains, and tells in one sentence what the user got wrong."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {" ".join(argv[1:])}')
  # Here, and not above: the data's worker processes import this file too, and
  # need none of what training does.
  import train

  silence_libraries()
  try:
    train.train_and_evaluate(_CONFIG.value, _WORKDIR.value)
  except UserError as error:
    sys.exit(f'Error: {error}')
  except KeyboardInterrupt:
    # Before the first step, or the second time during one.
    sys.exit('Interrupted; the same command goes on from what is saved.')


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags; a config that cannot be loaded is one sentence, too."""
  try:
    remaining = app.parse_flags_with_usage(argv)
    _CONFIG.value.keys()  # Where its file is not there, this says so.
    return remaining
  except (AttributeError, KeyError, TypeError, OSError) as error:
    sys.exit(f'Error: {describe_config_error(error)}')


def describe_config_error(error: Exception) -> str:
  """Returns what is wrong with a config, and where if it is in its file."""
  frames = traceback.extract_tb(error.__traceback__)
  where = ''.join(
    f'{frame.filename}, line {frame.lineno}: '
    for frame in frames
    if frame.name == 'get_config'
  )
  # ml_collections lists every key there is; its suggestion says enough. A
  # KeyError's text is in quotes.
  text = str(error).replace('\\', '').strip('"')
  if found := re.search('Did you mean "(.+?)" instead of "(.+?)"', text):
    return f'{where}there is no key {found[2]!r}; did you mean {found[1]!r}?'
  if found := re.search('Key "(.+?)" does not exist', text):
    return f'{where}there is no key {found[1]!r}; configs/base.py has them all.'
  if isinstance(error, KeyError | AttributeError) and not where:
    key = text.strip('"\'')
    return f'there is no key {key!r}; configs/base.py has them all.'
  if isinstance(error, OSError):
    return text.strip().splitlines()[-1].strip()
  return where + ' '.join(text.split())


def use_huge_pages() -> None:
  """Starts this process anew with huge pages for its arrays, once.

  What an array's memory costs on a CPU is mostly page faults, of which huge
  pages have fewer. Only glibc's start reads the setting.
  """
  if sys.platform == 'linux' and 'GLIBC_TUNABLES' not in os.environ:
    os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
    os.execv(sys.executable, sys.orig_argv)


if __name__ == '__main__':
  use_huge_pages()
  flags.mark_flags_as_required(['config', 'workdir'])
  app.run(main, flags_parser=parse_flags)
