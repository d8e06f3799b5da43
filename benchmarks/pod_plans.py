"""Plans the paper's recipes on slices, as a table in Markdown.

    python -m benchmarks.pod_plans --directory=PLANS

Needs requirements-tpu-compiler.txt. Each plan is one of `tools.plan` in a
process of its own, of 5 to 30 minutes on two cores and up to 10 GiB; it is kept
in PLANS, so that what was broken off is resumed. One that does not fit ends it.
All figures are the TPU compiler's estimates, none is measured on a TPU.
"""

import json
import pathlib
import subprocess
import sys

from coatnet_jax.arguments import create_parser

ROOT = pathlib.Path(__file__).parents[1]
# Phase of a config, slice, and what differs from the recipe.
ROWS = (
  ('coatnet_0.py:imagenet1k', 'v5e-32', ()),
  ('coatnet_1.py:imagenet1k', 'v5e-64', ()),
  ('coatnet_2.py:imagenet1k', 'v5e-64', ()),
  ('coatnet_3.py:imagenet1k', 'v5e-128', ()),
  ('coatnet_2.py:imagenet21k', 'v5e-64', ()),
  ('coatnet_3.py:imagenet21k', 'v5e-128', ()),
  ('coatnet_4.py:imagenet21k', 'v5e-256', ()),
  ('coatnet_3.py:jft300m', 'v5e-256', ()),
  ('coatnet_4.py:jft300m', 'v5e-256', ()),
  (
    'coatnet_5.py:jft300m',
    'v5p-256',
    ('sharding.fsdp=16', 'model.remat=expansions'),
  ),
  (
    'coatnet_6.py:jft3b',
    'v5p-512',
    ('sharding.fsdp=32', 'model.remat=expansions'),
  ),
  (
    'coatnet_7.py:jft3b',
    'v5p-512',
    ('sharding.fsdp=64', 'model.remat=blocks'),
  ),
  (
    'coatnet_7.py:jft3b_finetune_512',
    'v5p-128',
    ('sharding.fsdp=64', 'model.remat=blocks'),
  ),
)
# All of them compile equal blocks once.
COMMON = ('model.scan_blocks=True',)
_TITLES = (
  *('config', 'slice', '`--config.`', 'HBM GiB', 'Mcycles', 'images/s'),
  *('of peak', 'MB exchanged', 'hours', 'chip-hours', 'images/s per host'),
)


def main(arguments: list[str]) -> None:
  """Makes the plans that are missing, and prints the table.

  Args:
    arguments: after the program's name.
  """
  parser = create_parser('python -m benchmarks.pod_plans', __doc__)
  parser.add_argument('--directory', type=pathlib.Path, required=True)
  directory = parser.parse_args(arguments).directory
  directory.mkdir(parents=True, exist_ok=True)
  rows = [_TITLES, ('---',) * 3 + ('--:',) * (len(_TITLES) - 3)]
  for phase, slice_name, settings in ROWS:
    plan = load_plan(directory, phase, slice_name, settings)
    rows.append(describe(plan, phase, slice_name, settings))
  for row in rows:
    print(f'| {" | ".join(row)} |')


def load_plan(
  directory: pathlib.Path,
  phase: str,
  slice_name: str,
  settings: tuple[str, ...],
) -> dict:
  """Returns one plan as `tools.plan --json` prints it, made now or before.

  Args:
    directory: directory that plans are kept in.
    phase: file of configs/ and one of its phases.
    slice_name: name of the slice to plan for.
    settings: changes of the config, each KEY=VALUE.

  Raises:
    subprocess.CalledProcessError: it cannot be planned, or does not fit.
  """
  path = directory / f'{phase.replace(".py:", "_")}_{slice_name}.json'
  if not path.exists():
    planned = subprocess.run(
      [
        *(sys.executable, '-m', 'tools.plan', '--json'),
        *(f'--config=configs/{phase}', f'--topology={slice_name}'),
        *(f'--config.{setting}' for setting in (*COMMON, *settings)),
      ],
      cwd=ROOT,
      stdout=subprocess.PIPE,
      check=True,
    )
    path.write_bytes(planned.stdout)
  return json.loads(path.read_text())


def describe(
  plan: dict, phase: str, slice_name: str, settings: tuple[str, ...]
) -> tuple[str, ...]:
  """Returns the cells of a plan's row; arguments as of `load_plan`."""
  exchanged = sum(kind['bytes'] for kind in plan['collectives'].values())
  return (
    phase.replace('.py', ''),
    slice_name,
    ' '.join(f'`{setting}`' for setting in settings),
    f'{plan["needed_bytes"] / 2**30:.1f} of'
    f' {plan["available_bytes"] / 2**30:.1f}',
    f'{plan["cycles"] / 1e6:,.0f}',
    f'{plan["images_per_second"]:,.0f}',
    f'{plan["peak_share"]:.0%}',
    f'{exchanged / 1e6:,.0f}',
    f'{plan["hours"]:,.1f}',
    f'{plan["chip_hours"]:,.0f}',
    f'{plan["host_images_per_second"]:,.0f}',
  )


if __name__ == '__main__':
  main(sys.argv[1:])
