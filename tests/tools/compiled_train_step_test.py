"""A train step that is compiled, saved, and loaded by a run."""

import json

import pytest

import train
from coatnet_jax import compilation_cache
from coatnet_jax.initial_state import abstract_train_state
from coatnet_jax.run import create_run
from coatnet_jax.step_compilation import jit_train_step
from coatnet_jax.tpu_compiler import compiled_step

pytestmark = [pytest.mark.slow, pytest.mark.rotating]


@pytest.fixture(scope='module')
def saved(config, tmp_path_factory):
  """Returns the file of the config's train step for this machine."""
  path = tmp_path_factory.mktemp('compiled') / 'train_step'
  run = create_run(config)
  _, abstract_state = abstract_train_state(run)
  lowered = jit_train_step(run, abstract_state).lower(
    abstract_state, run.abstract_batch
  )
  with compilation_cache.switched_off():
    compiled = lowered.compile()
  compiled_step.save_compiled(path, lowered, compiled, run.mesh)
  return path


def test_a_run_with_it_is_the_run_without(
  saved, config, workdir, tmp_path, capsys
):
  loading = config.copy_and_resolve_references()
  loading.compiled_train_step = str(saved)
  train.train_and_evaluate(loading, str(tmp_path / 'run'))
  assert f'Loaded {saved}; nothing to compile.' in capsys.readouterr().out
  results = [
    json.loads((path / 'summary.json').read_text())
    for path in (workdir, tmp_path / 'run')
  ]
  assert results[0]['best'] == results[1]['best']


def test_one_of_another_run_is_not_used(saved, config, capsys):
  other = config.copy_and_resolve_references()
  other.schedule.peak_learning_rate = 0.5
  other.compiled_train_step = str(saved)
  run = create_run(other)
  _, abstract_state = abstract_train_state(run)
  train.compile_train_step(run, abstract_state)
  (line,) = capsys.readouterr().out.splitlines()
  assert line.startswith(f'The compiled program {saved} is for program ')
  assert line.endswith('. So it is compiled here.')
