"""Mistakes in the benchmarks: figures that are not what they are called."""

from tests.mutation.mistake import in_file

_TURNS = 'benchmarks/versus/turns_test.py'
_TRACE = 'benchmarks/step/trace_test.py'

MISTAKES = (
  *in_file(
    'benchmarks/versus/tables.py',
    (
      'ratio_upside_down',
      '[b / a for a, b in zip(first.seconds, row.seconds)]',
      '[a / b for a, b in zip(first.seconds, row.seconds)]',
      'The slower of two is called the faster one.',
      f'{_TURNS}::test_a_ratio_is_of_one_round',
    ),
  ),
  *in_file(
    'benchmarks/versus/turns.py',
    (
      'models_not_compared',
      'if ours is not None and ours != theirs:',
      'if ours is None and ours != theirs:',
      'Two models of different sizes are compared as if they were one.',
      f'{_TURNS}::test_who_fails_is_said_and_the_others_go_on',
    ),
    (
      'a_turn_has_all_of_the_time',
      'left = start + max_seconds - time.monotonic()',
      'left = max_seconds',
      'A contestant that hangs takes the time of the comparison once more.',
      f'{_TURNS}::test_a_turn_is_waited_for_as_long_as_there_is_time',
    ),
    (
      'always_the_same_order',
      'alive if index % 2 == 0 else reversed(alive)',
      'alive',
      'One contestant always comes after the same other one.',
      f'{_TURNS}::test_the_order_is_reversed_from_round_to_round',
    ),
  ),
  *in_file(
    'benchmarks/versus/contestant.py',
    (
      'first_step_of_a_turn_counted',
      '  take_step()\n  wait()\n  clock',
      '  clock',
      'The step that brings caches and memory back is in the figure.',
      f'{_TURNS}::test_a_turn_begins_with_a_step_that_does_not_count',
    ),
  ),
  *in_file(
    'benchmarks/step/trace.py',
    (
      'inside_counted_twice',
      '      own[open_events[-1].name] -= event.duration\n',
      '      pass\n',
      'What runs in a call counts for the call once more.',
      f'{_TRACE}::test_what_runs_inside_counts_once',
    ),
    (
      'seconds_of_all_steps',
      '* max(1, num_devices),',
      '* 1,',
      'On four devices a step takes four times as long by its profile.',
      f'{_TRACE}::test_a_profile_is_of_one_device_and_step',
    ),
  ),
  *in_file(
    'benchmarks/gpu/batches.py',
    (
      'cliffs_of_small_batches',
      'timing.task.batch_size > _LARGEST_UNCHECKED_BATCH',
      'timing.task.batch_size > 0',
      'A small batch, which no GPU computes as fast, is called a cliff.',
      'benchmarks/gpu_check_test.py',
    ),
    (
      'begun_too_late',
      'if start + longest > deadline:',
      'if start > deadline:',
      'The check of a GPU takes longer than it was given.',
      'benchmarks/gpu_check_test.py',
    ),
  ),
  *in_file(
    'benchmarks/gpu/agreement.py',
    (
      'nan_agrees',
      'return float(np.max(jax.tree.leaves(differences)))',
      'return max(jax.tree.leaves(differences))',
      'A gradient of NaN on a GPU agrees with the one on the CPU.',
      'benchmarks/gpu_check_test.py',
    ),
  ),
  *in_file(
    'benchmarks/gpu_check.py',
    (
      'not_checked_differs',
      "found['agrees'] is False for",
      "not found['agrees'] for",
      'What there was no time to check is a fault of the GPU.',
      'benchmarks/gpu_check_test.py',
    ),
  ),
)
