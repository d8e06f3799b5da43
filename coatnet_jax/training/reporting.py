"""What a run tells at its end, and what it leaves: summary and profile."""

import shlex
from collections.abc import Callable, Mapping
from typing import Any

import jax
from clu import parameter_overview
from etils import epath

from coatnet_jax.errors import UserError, find_reason
from coatnet_jax.paths import write_whole
from coatnet_jax.strict_json import to_json
from coatnet_jax.terminal import format_seconds
from coatnet_jax.training.training_log import LoggingOptions, format_metrics
from coatnet_jax.training.workdir import SUMMARY_FILE


def describe_stop(step: int, num_steps: int) -> str:
  """Returns what there is of a run that was asked to stop.

  Args:
    step: number of steps taken; they are saved.
    num_steps: number of steps of the whole run.
  """
  if not step:
    return 'Stopped before the first step; the same command begins anew.'
  if step < num_steps:
    return (
      f'Stopped after step {step:,}, which is saved; the same command resumes'
      ' from there.'
    )
  return (
    f'Stopped after step {step:,}, the last, which is saved; the same command'
    ' evaluates it.'
  )


def describe_end(workdir: str, summary: Mapping[str, Any]) -> str:
  """Returns what came out of a run and where it is, in lines for people.

  Args:
    workdir: directory of the run, perhaps gs://...
    summary: contents of its summary.json.
  """
  final, best = summary['final'], summary['best']
  best_line = 'none: no evaluation gave finite numbers'
  if best:
    best_line = f'{format_metrics(best)}, at step {best["step"]:,}'
  quoted = shlex.quote(workdir)
  return (
    f'Finished {summary["steps"]:,} steps in'
    f' {format_seconds(summary["seconds"])}.\n'
    f'final       {format_metrics(final)}\n'
    f'best        {best_line}\n'
    f'results     {workdir}/summary.json\n'
    f'curves      tensorboard --logdir={quoted}\n'
    f'evaluate    python -m tools.evaluate --checkpoint={quoted}\n'
    f'predict     python -m tools.predict --checkpoint={quoted} IMAGE...'
  )


def create_profile(
  workdir: str, options: LoggingOptions, report: Callable[[str], None] = print
) -> Callable[[int], None]:
  """Returns what is called after each step to profile those asked for.

  Args:
    workdir: directory of the run, perhaps gs://...
    options: steps to be profiled.
    report: function called with a sentence where the profile fails.
  """
  if not options.profile_at_step:
    return lambda step: None
  from clu import periodic_actions

  profile = periodic_actions.Profile(
    logdir=workdir,
    num_profile_steps=options.profile_num_steps,
    # Else clu goes on for three seconds, and to no end in a shorter run.
    profile_duration_ms=None,
    first_profile=options.profile_at_step,
    every_secs=None,
  )
  has_failed = False

  def go_on(step: int) -> None:
    nonlocal has_failed
    if has_failed:
      return
    try:
      profile(step)
    except Exception as error:  # JAX raises kinds of its own.
      has_failed = True
      report(
        f'The profile cannot be written to {workdir}'
        f' ({find_reason(error)}); training goes on.'
      )

  return go_on


def count_parameters(params: Any) -> int:
  """Logs a table of the parameters; returns how many there are.

  Args:
    params: tree of arrays or of `jax.ShapeDtypeStruct`.
  """
  parameter_overview.log_parameter_overview(params, include_stats=False)
  return int(parameter_overview.count_parameters(params))


def write_summary(workdir: str, summary: Mapping[str, Any]) -> None:
  """Writes workdir/summary.json, on the first process.

  Raises:
    UserError: it cannot be written.
  """
  if jax.process_index() > 0:
    return
  path = epath.Path(workdir) / SUMMARY_FILE
  try:
    write_whole(path, to_json(summary, indent=2) + '\n')
  except Exception as error:  # What writes buckets raises kinds of its own.
    raise UserError(
      f'The run is finished and saved, but {path} cannot be written:'
      f' {find_reason(error)}. The same command writes it.'
    ) from error


def remove_summary(workdir: str) -> None:
  """Removes the summary of a run that has more to do, if it has one.

  What is damaged at the end of a finished run is done again, and it is the
  summary that says whether a run is finished.

  Args:
    workdir: directory of the run, perhaps gs://...
  """
  if jax.process_index() == 0:
    (epath.Path(workdir) / SUMMARY_FILE).unlink(missing_ok=True)


def has_summary(workdir: str) -> bool:
  """Returns whether the run of a workdir has come to its end."""
  return (epath.Path(workdir) / SUMMARY_FILE).exists()
