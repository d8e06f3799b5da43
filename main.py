"""Trains a CoAtNet: flags and process start-up, then `train.py`.

    python main.py --config=configs/quickstart.py --workdir=/tmp/quickstart

Any key of the config can be changed: --config.training.num_epochs=2

On several machines each runs this same command. TPU VMs, GKE, Slurm and Open
MPI are recognised; elsewhere --coordinator_address, --num_processes and
--process_id say who is who: docs/pods.md.

Exit status: 0 for a run that is finished; 75 for one that was asked to stop and
has saved; anything else for an error.
"""

# ruff: noqa: E402

import os
import sys


def use_huge_pages() -> None:
  """Starts this process anew with huge pages for its arrays, once.

  What an array's memory costs on a CPU is mostly page faults, of which huge
  pages have fewer. Only glibc's start reads the setting.
  """
  if sys.platform == 'linux' and 'GLIBC_TUNABLES' not in os.environ:
    os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
    os.execv(sys.executable, sys.orig_argv)


if __name__ == '__main__':
  use_huge_pages()  # Before anything is imported, which would be in vain.

import contextlib
import re
import signal
import traceback

# Keeps TensorFlow quiet, which only writes TensorBoard files here.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

from absl import app, flags
from ml_collections import config_flags

from coatnet_jax import terminal
from coatnet_jax.errors import UserError
from coatnet_jax.library_noise import silence_libraries
from coatnet_jax.paths import expand_config_flag, resolve_path
from coatnet_jax.terminal import Terminal
from coatnet_jax.texts import use_utf8

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'File with the run: configs/quickstart.py, for example.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Directory for checkpoints, logs and results, which all processes see; may be'
  ' gs://...',
)
_COORDINATOR_ADDRESS = flags.DEFINE_string(
  'coordinator_address', '', 'host:port of process 0, on any free port.'
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'Processes of the run; 1 looks for no others.'
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'Which of them this one is, from 0.'
)
_CONNECT_TIMEOUT_SECONDS = flags.DEFINE_float(
  'connect_timeout_seconds', 300.0, 'How long processes wait for each other.'
)
_HANG_TIMEOUT_SECONDS = flags.DEFINE_float(
  'hang_timeout_seconds',
  1800.0,
  'How long a process may take for one thing, such as compiling, while the'
  ' others wait for it; then all end.',
)

# Where launchers say which of several processes this is.
_RANKS = ('SLURM_PROCID', 'OMPI_COMM_WORLD_RANK', 'JOB_COMPLETION_INDEX')
# Not finished, but no error either: sysexits.h's EX_TEMPFAIL.
_STOPPED = 75

# What ml_collections says of --config=FILE:PHASE where there are none.
_NO_PHASES = r'flag --config=(.+?):(\w*): .*get_config\(\) takes 0 positional'


def main(argv: list[str]) -> None:
  """Trains, and tells in one sentence what the user got wrong."""
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {" ".join(argv[1:])}')
  silence_libraries()
  try:
    run_directory = str(resolve_path(_WORKDIR.value, '--workdir'))
    with Terminal(is_silent=not is_first_process()) as start:
      start.line('Loading JAX ...')
      terminal.begin('loading JAX')
      signal.signal(signal.SIGINT, terminal.end_interrupted)
      # Here, and not above: it takes seconds, and the data's worker processes
      # import this file too, and need none of what training does.
      from coatnet_jax.distributed import processes

      options = processes.ProcessOptions(
        coordinator_address=_COORDINATOR_ADDRESS.value,
        num_processes=_NUM_PROCESSES.value,
        process_id=_PROCESS_ID.value,
        connect_timeout_seconds=_CONNECT_TIMEOUT_SECONDS.value,
        hang_timeout_seconds=_HANG_TIMEOUT_SECONDS.value,
      )
      import train
      from coatnet_jax import initial_state
      from coatnet_jax.training import reporting, workdir

      signal.signal(signal.SIGINT, signal.default_int_handler)
      terminal.begin('looking for other processes')
      with processes.connect(options):
        processes.check_agreement('code', processes.describe_code())
        initial_state.keep_chosen(
          _CONFIG.value,
          config_flags.get_override_values(flags.FLAGS['config']),
        )
        command = {'config': _CONFIG.value.to_dict(), 'workdir': _WORKDIR.value}
        processes.check_agreement('command', workdir.flatten(command))
        start.close()  # Training tells itself what goes on.
        train.train_and_evaluate(_CONFIG.value, run_directory)
    if not reporting.has_summary(run_directory):
      sys.exit(_STOPPED)
  except UserError as error:
    sys.exit(f'Error: {error}')
  except KeyboardInterrupt:
    # Before the first step, or the second time during one. Threads may still
    # compile a program, and crash where Python is taken down around them.
    message = 'Interrupted; the same command goes on from what is saved.'
    with contextlib.suppress(OSError):
      print(message, file=sys.stderr, flush=True)
    os._exit(terminal.INTERRUPTED)


def is_first_process() -> bool:
  """Returns whether this process is to speak, before JAX knows which it is."""
  ranks = (os.environ[name] for name in _RANKS if name in os.environ)
  return str(_PROCESS_ID.value or next(ranks, 0)) == '0'


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags; a config that cannot be loaded is one sentence, too."""
  try:
    remaining = flags.FLAGS(expand_config_flag(argv))
    _CONFIG.value.keys()  # Where its file is not there, this says so.
    return remaining
  except (AttributeError, KeyError, TypeError, OSError) as error:
    sys.exit(f'Error: {describe_config_error(error)}')
  except flags.Error as error:
    if found := re.search(_NO_PHASES, str(error), re.DOTALL):
      sys.exit(
        f'Error: {found[1]} has no phases; leave :{found[2]} out of --config.'
      )
    if missing := re.findall(r'flag --(\w+)=None: ', str(error)):
      names = ' and '.join(f'--{name}' for name in missing)
      sys.exit(
        f'Error: {names} must have a value, as in'
        ' --config=configs/quickstart.py --workdir=runs/quickstart (--helpshort'
        ' lists the flags).'
      )
    sys.exit(f'Error: {error} (--helpshort lists the flags.)')


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


if __name__ == '__main__':
  use_utf8()
  flags.mark_flags_as_required(['config', 'workdir'])
  app.run(main, flags_parser=parse_flags)
