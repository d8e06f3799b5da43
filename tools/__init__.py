"""Command lines, one purpose each: python -m tools.NAME."""

import os
import signal
import sys

# Keeps TensorFlow quiet, which TFDS and TensorBoard's writer import.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

from coatnet_jax import terminal
from coatnet_jax.errors import explain_choice

TOOLS = (
  'benchmark_attention',
  'chaos',
  'checkpoints',
  'convert_to_array_record',
  'evaluate',
  'explain',
  'export',
  'export_weights',
  'hub',
  'import_timm',
  'plan',
  'predict',
  'prepare',
  'prepare_emoji',
  'prepare_fashion_mnist',
  'replay',
  'report',
  'serve',
  'variants',
  'visualize',
)
# What is told goes to stderr: stdout has nothing but results.
SCREEN = terminal.Terminal(lambda: sys.stderr)


def start(arguments: list[str]) -> None:
  """Prepares for the import of a tool, which may take seconds.

  Args:
    arguments: Python's own command line: python -m tools.NAME ...
  """
  module = arguments[arguments.index('-m') + 1] if '-m' in arguments else ''
  name = module.removeprefix('tools.')
  if module and name not in TOOLS:
    sys.exit(explain_choice('The tool', name, TOOLS))
  signal.signal(signal.SIGINT, terminal.end_interrupted)
  if not {'-h', '--help'} & set(arguments):
    terminal.begin('loading JAX')
    SCREEN.start()


# As a program, and not in a test.
if sys.argv[:1] == ['-m']:
  start(sys.orig_argv)
