"""The training loop.

    state = train_and_evaluate(config, workdir)

is what the command line, a notebook and a test call.
"""

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from coatnet_jax import memory, stopping
from coatnet_jax.checkpoints import resuming, saving
from coatnet_jax.checkpoints.early_stopping import EarlyStopping
from coatnet_jax.checkpoints.metadata import Progress
from coatnet_jax.data import damage
from coatnet_jax.data.workers import WorkerError
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.distributed import processes
from coatnet_jax.evaluation.eval_step import EvaluatedExamples, evaluate
from coatnet_jax.figures.evaluation_pictures import draw_evaluation
from coatnet_jax.initial_state import check_same_data, prepare_train_state
from coatnet_jax.replay.examination import StepFunctions
from coatnet_jax.replay.replaying import explain_divergence
from coatnet_jax.reports import end_of_run
from coatnet_jax.run import Run, create_run
from coatnet_jax.run_batches import read_eval_batches, read_train_batches
from coatnet_jax.step_compilation import compile_train_step
from coatnet_jax.stopping import StoppedError
from coatnet_jax.terminal import Terminal
from coatnet_jax.training import (
  curves,
  freezing,
  log_file,
  reporting,
  training_log,
)
from coatnet_jax.training import lease as lease_lib
from coatnet_jax.training import workdir as workdir_lib
from coatnet_jax.training.steps_in_flight import StepsInFlight
from coatnet_jax.training.stop_signal import StopSignal
from coatnet_jax.training.train_state import TrainState
from coatnet_jax.training.train_step import (
  compute_gradients,
  prepare_inputs,
)


def evaluate_run(
  run: Run,
  state: TrainState,
  should_stop: Callable[[], bool] = lambda: False,
  observe: Callable[[EvaluatedExamples], None] = lambda examples: None,
) -> dict[str, float] | None:
  """Evaluates a state on the whole split: see `eval_step.evaluate`."""
  return evaluate(
    state.eval_variables,
    read_eval_batches(run),
    model=run.model,
    loss=run.loss,
    preprocessing=run.preprocessing,
    source=run.eval_source,
    max_damaged_fraction=run.data.max_damaged_fraction,
    mesh=run.mesh,
    should_stop=should_stop,
    observe=observe,
  )


def train_and_evaluate(
  config: ConfigDict, workdir: str | os.PathLike[str]
) -> TrainState:
  """Trains a config to its end, resuming from workdir's newest checkpoint.

  Args:
    config: config with the keys of `configs/base.py`.
    workdir: directory for checkpoints, logs, config.json and summary.json; one
      that all processes share, where there are several.

  Returns:
    The state after the last step, on the mesh; after the current one if the
    process was asked to stop (SIGINT, SIGTERM).

  Raises:
    UserError: what the user can put right; before anything is written, where
      it is known by then.
  """
  workdir = str(workdir_lib.resolve_workdir(workdir))
  with contextlib.ExitStack() as stack:
    terminal = stack.enter_context(Terminal(is_silent=jax.process_index() > 0))
    processes.begin('reading the data set')
    run = create_run(config, workdir=workdir)
    processes.check_agreement(
      'data',
      {
        'data.train_split': len(run.train_source),
        'data.eval_split': len(run.eval_source),
        'number of classes': run.train_source.num_classes,
      },
    )
    processes.begin('preparing the model')
    create_state, abstract_state, origin = prepare_train_state(run, workdir)
    memory.check_state(
      abstract_state, memory.estimate_host_bytes(run.config, run.model)
    )
    processes.begin('comparing the data with those the run was begun with')
    changed = check_same_data(run, workdir)
    processes.begin('looking for damaged images')
    damaged = run.look_for_damage()
    processes.begin('looking at the images')
    found = '' if saving.has_checkpoint(workdir) else run.inspect_data()
    processes.begin('taking the lease of the workdir')
    lease = stack.enter_context(lease_lib.hold(workdir, terminal.line))
    processes.wait_for_all('taking the lease of the workdir')
    taken = workdir_lib.claim_workdir(
      workdir, run.config, run.training.num_steps
    )
    stack.enter_context(log_file.log_to_file(workdir, terminal.line))
    num_parameters = reporting.count_parameters(abstract_state.params)
    terminal.line(
      f'model       {run.model_name}, {num_parameters:,} parameters\n'
      f'{run.describe()}\nworkdir     {workdir}'
    )
    if found:
      terminal.line(found)
    if taken:
      terminal.line(
        f'longer      the finished run of {taken:,} steps is resumed to step'
        f' {run.training.num_steps:,}, at the rates of a run of that length'
      )
    if changed:
      terminal.line(f'changed     {changed}, as config.data.changed accepts')
    if damaged:
      terminal.line(f'damaged     {damaged}')
    if run.frozen:
      count = freezing.count_frozen(abstract_state.params, run.frozen)
      terminal.line(f'frozen      {count:,} of these parameters')
    if origin:
      terminal.line('init_from   ' + '\n            '.join(origin))
    state = _train(run, workdir, create_state, abstract_state, terminal, lease)
    if reporting.has_summary(workdir):
      end_of_run.write_report(run, workdir, terminal.line)
    return state


def _train(
  run: Run,
  workdir: str,
  create_state: Callable[[], TrainState],
  abstract_state: TrainState,
  terminal: Terminal,
  lease: lease_lib.NoLease,
) -> TrainState:
  """Does what `train_and_evaluate` does with a run that is claimed."""
  num_steps = run.training.num_steps
  with contextlib.ExitStack() as stack:
    manager = saving.open_checkpoints(workdir, run.checkpoint, terminal.line)
    stack.callback(saving.close_checkpoints, manager)
    stopping.describe_checkpoints(
      manager.is_saving_in_progress,
      functools.partial(saving.describe_newest, manager),
    )
    stack.push(processes.end_all_on_error)  # Before it waits for the others.

    batch_size = run.training.global_batch_size
    processes.begin('restoring the checkpoint')
    state, progress = resuming.restore_newest(
      manager, abstract_state, terminal.line, examples_per_step=batch_size
    ) or (None, Progress())
    if state is None:
      processes.begin('initialising the parameters')
      state = create_state()
    early_stopping = EarlyStopping(
      run.training.early_stopping_evaluations,
      run.checkpoint.best_metric,
      progress,
    )
    checkpoints = saving.StepSaver(manager, run.metadata, early_stopping)
    is_left = not checkpoints.is_complete(num_steps)
    if is_left:
      reporting.remove_summary(workdir)  # Of an end that is to come again.
    processes.begin('loading TensorFlow, which writes for TensorBoard')
    writer = curves.create_writer(
      workdir,
      int(state.step),
      terminal.line,
      writers=run.logging.writers,
      config=run.config.to_dict(),
    )
    stack.callback(writer.close)
    take_step = None
    if is_left and int(state.step) < num_steps:
      take_step = _compile(run, abstract_state, terminal)
    log = training_log.TrainingLog(
      writer,
      terminal,
      options=run.logging,
      first_step=int(state.step),
      num_steps=num_steps,
      global_batch_size=batch_size,
      max_skipped=run.training.skip_nonfinite_steps,
      skipped_before=progress.skipped_steps,
      num_workers=run.data.num_workers,
    )
    try:
      state = train_loop(
        run,
        state,
        progress,
        take_step,
        log=log,
        checkpoints=checkpoints,
        profile=reporting.create_profile(workdir, run.logging, terminal.line),
        check_lease=lease.check,
      )
    except training_log.DivergenceError as error:
      saving.finish_saving(manager)
      raise explain_divergence(
        error,
        run,
        workdir,
        StepFunctions(prepare_inputs, compute_gradients, take_step),
        create_state,
        abstract_state,
        seconds_per_step=log.seconds_per_step,
        report=terminal.line,
      ) from None
    processes.begin('writing the last checkpoint')
    saving.finish_saving(manager)
    if not checkpoints.is_complete(num_steps):
      terminal.line(reporting.describe_stop(int(state.step), num_steps))
      return state
    summary = {
      'model': run.model_name,
      'num_parameters': reporting.count_parameters(abstract_state.params),
      **saving.summarize(manager, run.checkpoint, examples_per_step=batch_size),
    }
    if checkpoints.stops_early:
      summary['stopped_early'] = early_stopping.describe()
      terminal.line(f'early stop  {summary["stopped_early"]}')
    summary['config_hash'] = workdir_lib.compute_config_hash(run.config)
    lease.check()
    reporting.write_summary(workdir, summary)
    stopping.finish()
    saving.remove_old_checkpoints(manager, terminal.line)
    terminal.line(reporting.describe_end(workdir, summary))
  return state


def _compile(
  run: Run, abstract_state: TrainState, terminal: Terminal
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
  """Returns the compiled train step, once all processes have it."""
  processes.begin('compiling the train step')
  terminal.line('Compiling the train step ...')
  take_step = compile_train_step(run, abstract_state, terminal.line)
  processes.wait_for_all('compiling the train step')
  terminal.line('Training; the time it takes is estimated in a moment.')
  return take_step


def train_loop(
  run: Run,
  state: TrainState,
  progress: Progress,
  take_step: Callable[..., tuple[TrainState, dict[str, jax.Array]]] | None,
  *,
  log: training_log.TrainingLog,
  checkpoints: saving.StepSaver,
  profile: Callable[[int], Any],
  check_lease: Callable[[], None],
) -> TrainState:
  """Takes the steps that are left, saving and evaluating on the way.

  A step is saved before it is evaluated. Where a run ended in between, its
  evaluation is made up for first.

  Args:
    run: resolved run, from `create_run`.
    state: state to resume from, which is saved; donated.
    progress: how far the run had come at that state.
    take_step: compiled step, from `compile_train_step`; None where no step is
      left.
    log: log of every step's metrics and every evaluation's.
    checkpoints: checkpoints of the run, to be written and evaluated.
    profile: function called with each step.
    check_lease: function called before each step and each save; raises
      UserError where the workdir is no longer this run's.

  Returns:
    The state after the last step, after the one whose evaluation ends the run
    early, or after the one in which the process was asked to stop; it is saved.

  Raises:
    DivergenceError: a number of a step, or of a state that was to be saved, is
      not finite.
    UserError: too many images cannot be decoded, workers die, the workdir is
      lost, or a checkpoint cannot be written.
  """
  first_step = int(state.step)
  num_steps, every_steps = run.training.num_steps, run.evaluation.every_steps

  def is_evaluation_due(step):
    return step == num_steps or step % every_steps == 0

  def save(step):
    # Both raise if training diverged, before it is saved.
    log.report()
    log.check_state(step, state)
    processes.begin(f'saving, step {step}')
    check_lease()
    checkpoints.save(state, step, progress.after(**log.progress))

  def evaluate_saved(step):
    """Returns whether it came to its end, or was asked to stop."""
    observed = []
    metrics = evaluate_run(run, state, stop.is_due, observed.append)
    if metrics is not None:
      log.report_evaluation(step, metrics)
      if observed and run.logging.has_pictures:
        names = run.eval_source.class_names
        log.write_pictures(step, draw_evaluation(observed[0], names))
      processes.begin(f'saving the evaluation of step {step}')
      checkpoints.save_evaluation(step, metrics)
    return metrics is not None

  with contextlib.ExitStack() as stack:
    stop = stack.enter_context(StopSignal())
    lacks = is_evaluation_due(first_step) and checkpoints.lacks_evaluation()
    if lacks and not evaluate_saved(first_step):
      return state
    if first_step == num_steps or checkpoints.stops_early:
      return state
    corrupt = damage.CorruptImageCounter(
      run.train_source, run.data.max_damaged_fraction
    )
    batch_size = run.training.global_batch_size
    batches = read_train_batches(run, progress.examples_seen // batch_size)
    stack.enter_context(contextlib.closing(batches))
    in_flight = stack.enter_context(StepsInFlight())
    log.start_clock()
    for step in range(first_step + 1, num_steps + 1):
      check_lease()
      checkpoints.check()
      processes.begin(f'reading the images of step {step}')
      began = time.monotonic()
      try:
        batch = next(batches)
      except (StoppedError, WorkerError) as reason:
        # With several processes, the others would not save with this one.
        if checkpoints.saved_step < step - 1 and jax.process_count() == 1:
          save(step - 1)
        if isinstance(reason, WorkerError):
          raise
        break
      log.add_wait(in_flight.count_idle_seconds(began))
      corrupt.update(batch)
      if step == 1:
        log.write_images(step, batch['image'])
      processes.begin(f'taking step {step}')
      device_batch = mesh_lib.put_batch(batch, run.mesh, ('image', 'label'))
      with jax.transfer_guard('disallow'):
        state, metrics = take_step(state, device_batch)
      log.add(step, metrics)
      in_flight.add(metrics)
      profile(step)

      evaluates, stops = is_evaluation_due(step), stop.is_due()
      saves = evaluates or stops or run.checkpoint.is_due(step)
      if log.is_due(step):
        log.report()
        saves = saves or checkpoints.should_save(step)
      if saves:
        save(step)
      if stops or (evaluates and not evaluate_saved(step)):
        break
      if checkpoints.stops_early:
        break
      if saves:
        log.start_clock()
  return state


if __name__ == '__main__':
  sys.exit(
    'train.py has the loop, and is no program; run\n  python main.py'
    ' --config=configs/quickstart.py --workdir=runs/quickstart'
  )
