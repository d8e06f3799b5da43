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
import signal

# Keeps TensorFlow quiet, which only writes TensorBoard files here.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

from absl import app, flags
from ml_collections import config_flags

from coatnet_jax import config_flag, terminal
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


def main(argv: list[str]) -> None:
  """Trains, and tells in one sentence what the user got wrong."""
  if len(argv) > 1:
    sys.exit(
      f'Error: Unexpected arguments: {" ".join(argv[1:])}; everything is given'
      ' as --NAME=VALUE (--helpshort lists the flags).'
    )
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
      from coatnet_jax.training import reporting, workdir

      signal.signal(signal.SIGINT, signal.default_int_handler)
      terminal.begin('looking for other processes')
      with processes.connect(options):
        processes.check_agreement('code', processes.describe_code())
        config_flag.keep_chosen(
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
    message = 'Interrupted; the same command resumes from what is saved.'
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
    arguments = expand_config_flag(argv)
    config_flag.check_config_file(arguments)
    remaining = flags.FLAGS(arguments)
    _CONFIG.value.keys()  # Where its file cannot be loaded, this says so.
    return remaining
  except flags.Error as error:
    sys.exit(f'Error: {config_flag.describe_flag_error(error)}')
  except BrokenPipeError:  # Nobody reads the help, as after `| head`.
    os._exit(terminal.UNREAD)
  except Exception as error:  # Whatever the config's file does wrong.
    sys.exit(f'Error: {config_flag.describe_config_error(error, argv)}')


if __name__ == '__main__':
  use_utf8()
  flags.mark_flags_as_required(['config', 'workdir'])
  app.run(main, flags_parser=parse_flags)
