"""The quick half of the attack on the decoder: tests/data/attack."""

import pytest

from tests.data.attack import __main__ as attack
from tests.data.attack import bombs, largest, trial

# Bombs whose files take a second to be made.
_DEAR = ('GiB', '00,000')


def _find_problems(pictures):
  problems, outcomes = [], {}
  for found in trial.try_pictures(pictures):
    outcomes[found.name] = found.outcome
    problems += [found.problem] if found.problem else []
  assert not problems
  return outcomes


def test_bombs_and_mutations_are_pictures_or_damaged():
  made = [
    (name, create())
    for name, create in bombs.list_bombs()
    if not any(part in name for part in _DEAR)
  ]
  assert len(made) >= 40
  mutations = list(attack.list_mutations(number=400, seed=1))
  outcomes = _find_problems([*made, *mutations])
  assert len(outcomes) == len(made) + len(mutations)
  refused = [
    name
    for name, outcome in outcomes.items()
    if 'max_image_pixels' in outcome or 'too long to decode' in outcome
  ]
  for name, _ in made:
    if '65000' in name or '20000' in name or '2**31 - 1' in name:
      assert name in refused, (name, outcomes[name])
  assert 'jpeg of 500 scans' in refused
  whole = [name for name, _ in mutations if outcomes[name] == 'a picture']
  # Most mutations are noticed, and those of notes and ends do no harm.
  assert 0.2 < len(whole) / len(mutations) < 0.6


def test_what_ends_or_hangs_the_process_is_not_allowed(monkeypatch):
  found = trial.Trial('a', 0.1, 10, 'it ended with -11', False, '')
  assert found.problem == 'a: it ended with -11'
  found = trial.Trial('a', 1.5, 600 << 10, 'a picture', True, 'libpng error')
  assert found.problem == "a: 1.50 s; 600 MiB; on stderr: 'libpng error'"


@pytest.mark.slow
@pytest.mark.rotating
def test_bombs_that_take_long_to_make():
  _find_problems(
    (name, create())
    for name, create in bombs.list_bombs()
    if any(part in name for part in _DEAR)
  )


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('kind', largest.KINDS)
def test_the_largest_that_are_decoded_take_no_more(monkeypatch, kind):
  # A second is measured alone, by the command; other tests run beside this.
  monkeypatch.setattr(trial, 'MAX_SECONDS', 2.0)
  [outcome] = _find_problems(largest.list_largest([kind], ['flat'])).values()
  assert outcome == 'a picture'
