"""Trains a CoAtNet: the command line and process start-up, then `train.py`.

    python main.py --config=configs/quickstart.py --workdir=/tmp/quickstart

Any key of the config can be changed: --config.training.num_epochs=2

On several machines each runs this same command. TPU VMs, GKE, Slurm and Open
MPI are recognised; elsewhere --coordinator_address, --num_processes and
--process_id say who is who: docs/pods.md.

Exit status: 0 for a run that is finished; 75 for one that was asked to stop, by
SIGINT (Ctrl-C) or SIGTERM, and has saved what it had done; anything else for an
error. Asked a second time it ends at once, with 75 and what was saved before.
"""

# ruff: noqa: E402

import os
import signal
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
  # Kept until somebody listens below; the new start keeps them too.
  signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
  use_huge_pages()  # Before anything is imported, which would be in vain.
  from coatnet_jax import stopping

  stopping.listen()

import argparse
import faulthandler
import traceback
from typing import NoReturn, TextIO

# Keeps TensorFlow quiet, which only writes TensorBoard files here.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

from absl import flags
from ml_collections import ConfigDict

from coatnet_jax import arguments, stopping, terminal
from coatnet_jax.arguments import add_number
from coatnet_jax.config_flag import add_config, load_config, parse_with_config
from coatnet_jax.errors import UserError, explain_disk_failure
from coatnet_jax.escapes import escape
from coatnet_jax.library_noise import silence_libraries
from coatnet_jax.paths import resolve_path
from coatnet_jax.terminal import Terminal
from coatnet_jax.texts import use_utf8

# Where launchers say which of several processes this is.
_RANKS = ('SLURM_PROCID', 'OMPI_COMM_WORLD_RANK', 'JOB_COMPLETION_INDEX')


class _Parser(argparse.ArgumentParser):
  """A parser whose errors are one sentence."""

  def error(self, message: str) -> NoReturn:
    """Raises UserError: a name without a value."""
    raise UserError(f'{message} (--help lists the flags).')

  def print_help(self, file: TextIO | None = None) -> None:
    """Raises UnreadError where nobody reads it, as after `| head`."""
    terminal.write_result(self.format_help())


def create_parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line, without --config.KEY."""
  parser = arguments.create_parser('main.py', __doc__, _Parser)
  # What absl, which read this command line once, has beside --help.
  parser.add_argument(
    '--helpshort', '--helpfull', action='help', help=argparse.SUPPRESS
  )
  add_config(parser)
  parser.add_argument(
    '--workdir',
    metavar='DIR',
    help='for checkpoints, logs and results, which all processes see; may be'
    ' gs://...',
  )
  parser.add_argument(
    '--compilation_cache',
    metavar='DIR',
    help='where compiled programs are kept, for the next start; may be gs://...,'
    ' and empty keeps none (JAX_COMPILATION_CACHE_DIR, or a directory of'
    ' ~/.cache/coatnet_jax)',
  )
  parser.add_argument(
    '--coordinator_address',
    default='',
    metavar='HOST:PORT',
    help='process 0, on any free port',
  )
  add_number(
    parser,
    '--num_processes',
    help='processes of the run; 1 looks for no others',
  )
  add_number(
    parser, '--process_id', at_least=0, help='which of them this one is, from 0'
  )
  add_number(
    parser,
    '--connect_timeout_seconds',
    float,
    default=300.0,
    at_least=0,
    metavar='SECONDS',
    help='how long processes wait for each other (%(default)g)',
  )
  add_number(
    parser,
    '--hang_timeout_seconds',
    float,
    default=1800.0,
    at_least=0,
    metavar='SECONDS',
    help='how long a process may take for one thing, such as compiling, while'
    ' the others wait for it; then all end (%(default)g)',
  )
  return parser


def main(words: list[str]) -> int:
  """Trains, and tells in one sentence what the user got wrong.

  Args:
    words: words of the command line after the program's name.

  Returns:
    The exit status.
  """
  silence_libraries()
  faulthandler.enable()  # Where an extension crashes, says what it was doing.
  flags.FLAGS.mark_as_parsed()  # Grain's worker processes ask for absl's flags.
  try:
    options, changes = parse_with_config(create_parser(), words)
    missing = [n for n in ('config', 'workdir') if vars(options)[n] is None]
    if missing:
      raise UserError(
        f'{" and ".join(f"--{name}" for name in missing)} must have a value, as'
        ' in --config=configs/quickstart.py --workdir=runs/quickstart (--help'
        ' lists the flags).'
      )
    return run_process(load_config(options.config, changes), options)
  except UserError as error:
    sys.exit(escape(f'Error: {error}'))
  except terminal.UnreadError:
    return terminal.UNREAD
  except OSError as error:
    if not (message := explain_disk_failure(error)):
      raise
    sys.exit(escape(f'Error: {message}'))


def run_process(config: ConfigDict, options: argparse.Namespace) -> int:
  """Trains as one of the run's processes; returns the exit status.

  Args:
    config: config of the run.
    options: arguments of `create_parser`.

  Raises:
    UserError: what the user can put right.
  """
  workdir = str(resolve_path(options.workdir, '--workdir'))
  with Terminal(is_silent=not is_first_process(options.process_id)) as start:
    start.line('Loading JAX ...')
    terminal.begin('loading JAX')
    # Here, and not above: it takes seconds, and the data's worker processes
    # import this file too, and need none of what training does.
    from coatnet_jax import compilation_cache
    from coatnet_jax.distributed import processes

    kept = compilation_cache.keep_compiled(options.compilation_cache)
    place = processes.ProcessOptions(
      coordinator_address=options.coordinator_address,
      num_processes=options.num_processes,
      process_id=options.process_id,
      connect_timeout_seconds=options.connect_timeout_seconds,
      hang_timeout_seconds=options.hang_timeout_seconds,
    )
    from flax.traverse_util import flatten_dict

    import train
    from coatnet_jax.training import reporting

    terminal.begin('looking for other processes')
    with processes.connect(place):
      processes.check_agreement('code', processes.describe_code())
      command = {'config': config.to_dict(), 'workdir': options.workdir}
      processes.check_agreement('command', flatten_dict(command, sep='.'))
      start.line(f'programs    {kept}')
      start.close()  # Training tells itself what goes on.
      train.train_and_evaluate(config, workdir)
  return 0 if reporting.has_summary(workdir) else stopping.STATUS


def is_first_process(process_id: int | None) -> bool:
  """Returns whether this process is to speak, before JAX knows which it is.

  Args:
    process_id: number that the command line gives it, if any.
  """
  ranks = (os.environ[name] for name in _RANKS if name in os.environ)
  return str(process_id or next(ranks, 0)) == '0'


def run_program() -> NoReturn:
  """Does what `main` does, and ends with its status."""
  use_utf8()
  try:
    status = main(sys.argv[1:])
  except SystemExit as end:
    if isinstance(end.code, str):
      print(end.code, file=sys.stderr)
    status = end.code if isinstance(end.code, int) else 1
  except BaseException:
    traceback.print_exc()
    status = 1
  if status or stopping.leaves_threads():
    # Threads that still read, write or compile are not waited for.
    stopping.end(status)
  sys.exit()


if __name__ == '__main__':
  run_program()
