"""Mistakes in reports of the TPU's compiler, and in plans."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/tpu_compiler/compiled_step.py',
    (
      'kernels_body_counts',
      "_KERNEL_BODY.sub('', lowered.as_text())",
      'lowered.as_text()',
      'A compiled step is never found to be that of the same program.',
      'tpu_compiler/compiled_step_test.py',
    ),
    (
      'number_of_devices_ignored',
      "f'{mesh.size} x {device.device_kind}'",
      "f'{device.device_kind}'",
      'A program for 4 devices is loaded on 8.',
      'tpu_compiler/compiled_step_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/tpu_compiler/topologies.py',
    (
      'any_side_makes_a_ring',
      'is_torus = all(length % 4 == 0 for length in self.grid)',
      'is_torus = any(length % 4 == 0 for length in self.grid)',
      'Slices that are no whole cubes are planned with rings.',
      'tpu_compiler/topologies_test.py',
    ),
    (
      'one_core_of_v5p',
      'math.prod(grid) * CHIPS[chip_name].num_cores',
      'math.prod(grid)',
      'v5p-8 is taken for eight chips, and is four.',
      'tpu_compiler/topologies_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/tpu_compiler/collectives.py',
    (
      'reduced_in_one_round',
      "'all-reduce': 2 * others",
      "'all-reduce': others",
      'An all-reduce is said to send half of what it does.',
      'tpu_compiler/collectives_test.py',
    ),
    (
      'collectives_counted_twice',
      'if not channel or key not in seen:',
      'if channel or key not in seen:',
      'A collective that the program names twice is counted twice.',
      'tpu_compiler/collectives_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/tpu_compiler/compiled_text.py',
    (
      'loops_run_once',
      'inner_times *= inner_trips',
      'inner_times *= 1',
      'What is in a loop is counted once.',
      'tpu_compiler/compiled_text_test.py tpu_compiler/compiler_report_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/tpu_compiler/compiler_report.py',
    (
      'kernels_run_once',
      'cycles=count * call.steps * times,',
      'cycles=count * call.steps,',
      'The cycles of a kernel in a loop are those of one trip.',
      'tpu_compiler/compiler_report_test.py',
    ),
    (
      'copies_are_free',
      'return destination.num_bytes * (source.in_hbm + destination.in_hbm)',
      'return destination.num_bytes * (source.in_hbm and destination.in_hbm)',
      'What is copied between HBM and VMEM counts as no traffic.',
      'tpu_compiler/compiler_report_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/planning/cycle_breakdown.py',
    (
      'gradients_are_optimizer',
      "(r'jvp\\(', 'loss'),",
      "(r'jvp\\(', 'optimizer'),",
      'Cycles of the loss are called those of the optimizer.',
      'planning/cycle_breakdown_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/tpu_compiler/pallas_schedules.py',
    (
      'one_core_works',
      'sizes[axis] = -(-sizes[axis] // num_cores)',
      'sizes[axis] = -(-sizes[axis] // 1)',
      'Kernels on chips of two cores take twice the steps.',
      'tpu_compiler/pallas_schedules_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/planning/plan_page.py',
    (
      'chips_of_one_slice',
      'return self.num_slices * self.slice.num_devices',
      'return self.slice.num_devices',
      'A pod of several slices is planned as one.',
      'planning/plan_page_test.py',
    ),
    (
      'training_is_one_pass',
      "f' {3 * flops / 1e9:,.2f} G in training'",
      "f' {2 * flops / 1e9:,.2f} G in training'",
      'FLOPs of training leave out half of the backward pass.',
      'planning/plan_page_test.py tools/plan_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/planning/plan_search.py',
    (
      'parts_lost',
      'tried.training.global_batch_size = size * shards * parts',
      'tried.training.global_batch_size = size * shards',
      'The search for a batch forgets that it is computed in parts.',
      'planning/plan_arguments_test.py',
    ),
    (
      'true_is_any_text',
      "value == 'True' if kind is bool else kind(value)",
      'kind(value)',
      '--compare=scan=False compares with scanning.',
      'planning/plan_arguments_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/planning/plan_config.py',
    (
      'one_size_is_enough',
      'if (num_examples is None) != (num_classes is None):',
      'if num_examples is None and num_classes is not None:',
      '--train_examples without --num_classes is a traceback.',
      'planning/plan_arguments_test.py',
    ),
  ),
)
