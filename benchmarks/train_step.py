r"""Times a config's own train step on made-up images, on any device.

    python -m benchmarks.train_step --config=configs/quickstart.py
    python -m benchmarks.train_step --config=configs/coatnet_0.py --profile \
        --config.training.global_batch_size=128 --config.model.dtype=bfloat16

Nothing is read but the size of the data set, and nothing is written. A data set
that is not here is one that --train_examples and --num_classes describe; those
of the paper are known. The step is the one that main.py would take, with
everything that the config says of model, optimizer and mesh.

Shown are the median and the quartiles of the time of a step, over rounds of
steps that follow each other; images per second; time to compile, with nothing
kept from an earlier start; the most memory held, the device's or, on a CPU, the
process's; and, of a device that is known, the share of what it can compute at
most: by the model's multiply-adds, three times those of the forward pass, as
tools.plan has it, and by XLA's own count of the compiled step, which has what
is computed again and counts the body of a loop once.

--profile traces three more steps, and shows where the time goes by kind of
layer, by the device's own trace.

It needs nothing that reads data and writes curves and checkpoints, TensorFlow,
grain, clu and blake3, say, but ml-collections for the config.
"""

import argparse
import sys
from typing import Any

import humanize

from benchmarks import figures_file, stand_ins
from coatnet_jax.arguments import add_number
from coatnet_jax.errors import UserError
from coatnet_jax.library_noise import silence_libraries

# What of a trace is of no instruction: trace.py.
UNKNOWN = 'not in the program'
# What training imports and a step on made-up images does not use.
_NOT_USED = (
  *('tensorflow', 'tensorflow_datasets', 'clu', 'grain', 'array_record'),
  *('simplejpeg', 'blake3', 'h5py'),
)


def main(words: list[str]) -> int:
  """Runs the command line; returns the exit status.

  Args:
    words: words of the command line after the program's name.

  Raises:
    UserError: a package is missing, or the config is wrong or does not fit.
  """
  if not stand_ins.is_installed('ml_collections'):
    raise UserError(
      'ml-collections is not installed, which configs are made of: pip install'
      ' ml-collections'
    )
  missing = stand_ins.install(*_NOT_USED)
  # Here, as what they import may be missing.
  from coatnet_jax import config_flag

  parser = figures_file.create_parser('train_step', __doc__)
  config_flag.add_config(parser)
  _add_arguments(parser)
  options, changes = config_flag.parse_with_config(parser, words)
  config = config_flag.load_config(options.config, changes)
  if missing:
    _report(f'not installed, and not needed here: {", ".join(missing)}')
  from benchmarks.step.measuring import measure
  from coatnet_jax.planning.plan_config import find_sources
  from coatnet_jax.planning.plan_program import describe_model
  from coatnet_jax.run import create_run

  sources = find_sources(config, options.train_examples, options.num_classes)
  run = create_run(config, sources=sources)
  figures = {
    **figures_file.describe_start('benchmarks.train_step', words),
    'model': describe_model(run),
    **measure(
      run,
      num_rounds=options.rounds,
      profiles=options.profile,
      report=_report,
    ),
  }
  print(describe(figures))
  figures_file.write(options.json, figures)
  return 0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--profile',
    action='store_true',
    help='trace some steps, and show where the time goes by kind of layer',
  )
  add_number(
    parser, '--rounds', default=20, help='rounds that are timed (%(default)s)'
  )
  for name, what in (
    ('--train_examples', 'images of the data set, where it is not here'),
    ('--num_classes', 'classes of it'),
  ):
    add_number(parser, name, help=what)


def describe(figures: dict[str, Any]) -> str:
  """Returns figures in lines for people.

  Args:
    figures: measured figures by name, those that --json writes.
  """
  lower, upper = figures['quartile_seconds']
  devices = figures['num_devices']
  lines = [
    f'model       {figures["model"]}, {figures["num_parameters"]:,} parameters',
    f'device      {devices} x {figures["device"]},'
    f' {figures_file.describe_processor(figures)}, jax'
    f' {figures["versions"]["jax"]}, {figures["date"]}',
    f'step        {1e3 * figures["median_seconds"]:,.1f} ms'
    f' ({1e3 * lower:,.1f} to {1e3 * upper:,.1f};'
    f' {len(figures["seconds_per_step"])} rounds of'
    f' {figures["steps_per_round"]})',
    f'images/s    {figures["images_per_second"]:,.1f} in batches of'
    f' {figures["global_batch_size"]:,}',
    f'of peak     {_describe_share(figures)}',
    f'memory      {_format_bytes(figures["peak_bytes"])} at most;'
    f' {_format_bytes(figures["temporary_bytes"])} of temporaries in a step',
    f'compiling   {figures["compile_seconds"]:,.1f} s, after'
    f' {figures["trace_seconds"]:,.1f} s of tracing',
  ]
  if 'profile' in figures:
    lines += ['', *_describe_profile(figures['profile'])]
  return '\n'.join(lines)


def _describe_share(figures: dict[str, Any]) -> str:
  if figures['peak_share'] is None:
    return f'left out: the peak of {figures["device"]!r} is not known'
  text = f'{figures["peak_share"]:.1%} by the model'
  if figures['compiler_peak_share']:
    text += f', {figures["compiler_peak_share"]:.1%} by what XLA counts'
  peak = figures['peak_flops_per_device'] / 1e12
  return f'{text}, of {peak:,.0f} TFLOP/s each'


def _describe_profile(profile: dict[str, Any]) -> list[str]:
  total = profile['seconds_per_step']
  if not total:
    return ['The trace has nothing of the step.']
  lines = ['| kind of layer | ms a step | share |', '| --- | --: | --: |']
  for kind, seconds in profile['by_kind'].items():
    if seconds:
      lines.append(f'| {kind} | {1e3 * seconds:,.2f} | {seconds / total:.1%} |')
  lines += [
    f'| sum of what ran, side by side or not | {1e3 * total:,.2f} | |',
    '',
    '| largest | kind | ms a step | place |',
    '| --- | --- | --: | --- |',
  ]
  for row in profile['largest']:
    lines.append(
      f'| {row["name"]} | {row["kind"]} | {1e3 * row["seconds"]:,.2f}'
      f' | {row["op_name"].removeprefix("jit(train_step)/")} |'
    )
  if profile['by_kind'].get(UNKNOWN, 0.0) > 0.1 * total:
    lines += [
      '',
      f'Much is {UNKNOWN}: on a GPU, what is launched as one graph has lost its'
      ' names, which XLA_FLAGS=--xla_gpu_enable_command_buffer= keeps.',
    ]
  return lines


def _format_bytes(count: int | None) -> str:
  if count is None:
    return 'an unknown number'
  return humanize.naturalsize(count, binary=True)


def _report(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


if __name__ == '__main__':
  if stand_ins.is_installed('ml_collections'):
    from main import use_huge_pages

    use_huge_pages()  # As main.py does: it starts anew.
  silence_libraries()
  try:
    sys.exit(main(sys.argv[1:]))
  except UserError as error:
    sys.exit(f'Error: {error}')
