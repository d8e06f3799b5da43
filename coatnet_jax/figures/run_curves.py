"""Curves of several runs on one plot, a panel for each measure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from coatnet_jax.errors import UserError, explain_choice
from coatnet_jax.figures import canvas

if TYPE_CHECKING:
  from matplotlib.figure import Figure

# Of one run: pairs of a step and a number, by the measure's name.
Rows = Mapping[str, Sequence[tuple[int, float]]]
_USUAL = ('train/loss', 'eval/loss', 'eval/top1')
_MAX_MARKS = 12


def find_measures(runs: Mapping[str, Rows], wanted: Sequence[str]) -> list[str]:
  """Returns the measures to draw.

  Args:
    runs: rows of each run, by its name.
    wanted: names of measures; the usual ones that there are if empty.

  Raises:
    UserError: no run has such a measure, or a run has none at all.
  """
  for name, rows in runs.items():
    if not rows:
      raise UserError(
        f'{name} has no curves: give workdirs of runs that have written some.'
      )
  found = sorted({measure for rows in runs.values() for measure in rows})
  for measure in wanted:
    if measure not in found:
      raise UserError(explain_choice('--measure', measure, found))
  return list(wanted) or [m for m in _USUAL if m in found] or found[:3]


def name_runs(paths: Sequence[str]) -> list[str]:
  """Returns short names of workdirs, none like another.

  >>> name_runs(['/runs/a/seed_0', '/runs/b/seed_0'])
  ['a/seed_0', 'b/seed_0']
  >>> name_runs(['/runs/a', '/runs/b'])
  ['a', 'b']

  Args:
    paths: paths of the workdirs, no two alike.
  """
  parts = [path.rstrip('/').split('/') for path in paths]
  for count in range(1, max(map(len, parts)) + 1):
    names = ['/'.join(part[-count:]) for part in parts]
    if len(set(names)) == len(names):
      break
  return names


def draw_run_curves(
  runs: Mapping[str, Rows], measures: Sequence[str]
) -> 'Figure':
  """Draws a panel for each measure, a line for each run.

  Args:
    runs: rows of each run, by its name.
    measures: names of the measures, from `find_measures`.
  """
  shown = [canvas.clean(name, 60) for name in runs]
  figure = canvas.create_figure(760, 60 + 260 * len(measures) + 18 * len(shown))
  panels = figure.subplots(len(measures), 1, squeeze=False, sharex=True)[:, 0]
  for axes, measure in zip(panels, measures):
    for rows, name, style in zip(
      runs.values(), shown, canvas.list_line_styles(len(runs))
    ):
      points = list(zip(*rows.get(measure, ()))) or [(), ()]
      every = max(1, -(-len(points[0]) // _MAX_MARKS))
      axes.plot(*points, label=name, markevery=every, **style)
    axes.set_ylabel(canvas.clean(measure, 40))
    axes.grid(color='0.85', linewidth=0.6)
  panels[-1].set_xlabel('step')
  panels[-1].xaxis.set_major_formatter('{x:,.0f}')
  handles, _ = panels[0].get_legend_handles_labels()
  figure.legend(
    handles, shown, loc='outside upper left', frameon=False, handlelength=4
  )
  return figure
