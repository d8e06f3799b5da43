"""Whole runs against another implementation's: `tests/reference`.

Where a run differs, the message names the first number that does, and what the
run is like instead: one without label smoothing, say.
"""

import itertools
import pathlib
from unittest import mock

import numpy as np
import pytest

from coatnet_jax.models import variants
from tests import project_run
from tests.golden.make_train_step_golden import read_golden
from tests.reference import case
from tests.reference.comparison import (
  compute_digest,
  compute_scales,
  digests_agree,
  find_differences,
)

GOLDEN = pathlib.Path(__file__).parent / 'golden' / 'train_step.npz'

# Changes of pictures alone: the compiled step is the same.
OF_PICTURES = [
  name
  for name, changes in case.CHANGES.items()
  if all(
    key.startswith(('augmentation.', 'preprocessing.'))
    and key not in ('preprocessing.mean', 'preprocessing.std')
    for key in changes
  )
]
# It changes how the state starts.
ANOTHER_SEED = 'another seed'
OTHERS = [
  name
  for name in case.CHANGES
  if name not in (*OF_PICTURES, case.EVERYTHING_OFF, ANOTHER_SEED)
]


@pytest.fixture(scope='module', autouse=True)
def _variant():
  variant = project_run.create_variant()
  with mock.patch.dict(variants.VARIANTS, reference=variant):
    yield


@pytest.fixture(scope='module')
def golden():
  """The reference's numbers, their scales, and the digests of changes."""
  with np.load(GOLDEN) as file:
    numbers, digests = read_golden(file)
  return numbers, compute_scales(numbers), digests


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """The case's pictures."""
  path = tmp_path_factory.mktemp('pictures')
  project_run.write_pictures(path)
  return path


@pytest.fixture(scope='module')
def start(folder):
  """A run's start."""
  return project_run.Start(folder)


@pytest.fixture(scope='module')
def program(start):
  """The case's compiled train step."""
  return start.run_parts(case.change(''))[1]


def find_likeness(numbers, golden) -> str:
  """Says what a run is like that is not like the case's."""
  expected, scales, digests = golden
  digest = compute_digest(numbers)
  runs = {'a run with the config as it is': compute_digest(expected)}
  runs |= {f'a run with {name}': digests[name] for name in case.CHANGES}
  runs |= {f'a run in which {name}': digests[name] for name in case.MISTAKES}
  like = [
    name for name, other in runs.items() if digests_agree(digest, other, scales)
  ]
  return f'It agrees with {" and ".join(like) or "no run that is known"}.'


def check(numbers, golden, name):
  """Fails where a run's numbers are not those of the reference's."""
  expected, scales, digests = golden
  if not name:
    differences = list(find_differences(numbers, expected))
    assert not differences, '\n'.join(
      [find_likeness(numbers, golden), *differences[:20]]
    )
  elif not digests_agree(compute_digest(numbers), digests[name], scales):
    pytest.fail(
      f'The run with {name} is not one. {find_likeness(numbers, golden)}'
    )


def test_every_number_agrees(folder, tmp_path, monkeypatch, golden):
  numbers = project_run.run_project(
    folder, tmp_path / 'run', case.change(''), monkeypatch
  )
  check(numbers, golden, '')


def test_every_change_and_every_mistake_is_another_run(golden):
  expected, scales, digests = golden
  assert set(digests) == {*case.CHANGES, *case.MISTAKES}
  runs = {'': compute_digest(expected), **digests}
  for (name, one), (other, another) in itertools.combinations(runs.items(), 2):
    assert not digests_agree(one, another, scales), (name, other)


@pytest.mark.parametrize('name', OF_PICTURES)
def test_changes_of_pictures(name, start, program, golden):
  numbers, _ = start.run_parts(case.change(name), program)
  check(numbers, golden, name)


@pytest.mark.slow
@pytest.mark.rotating
def test_everything_off(start, golden):
  numbers, _ = start.run_parts(case.change(case.EVERYTHING_OFF))
  check(numbers, golden, case.EVERYTHING_OFF)


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('name', OTHERS)
def test_changes_of_the_step(name, start, golden):
  numbers, _ = start.run_parts(case.change(name))
  check(numbers, golden, name)


@pytest.mark.slow
@pytest.mark.rotating
def test_another_seed(folder, tmp_path, monkeypatch, golden):
  numbers = project_run.run_project(
    folder, tmp_path / 'run', case.change(ANOTHER_SEED), monkeypatch
  )
  check(numbers, golden, ANOTHER_SEED)
