"""Mistakes in meshes, shardings and processes."""

from tests.mutation.mistake import in_file

MISTAKES = (
  *in_file(
    'coatnet_jax/distributed/mesh.py',
    (
      'slices_not_seen',
      "'replica': slices if replica == -1 else replica,",
      "'replica': 1 if replica == -1 else replica,",
      'Parameters are gathered over the slow network between slices.',
      'distributed/mesh_test.py',
    ),
    (
      'shards_of_whole_processes',
      'if any(device.process_index == process_index for device in devices)',
      'if all(device.process_index == process_index for device in devices)',
      'A shard that two processes share is read by none.',
      'distributed/mesh_test.py',
    ),
    (
      'fsdp_repeats_the_batch',
      "'fsdp')\nAXES = (*BATCH_AXES, 'tensor')",
      ")\nAXES = (*BATCH_AXES, 'fsdp', 'tensor')",
      'Devices that share parameters compute the same images.',
      'distributed/mesh_test.py ops/batch_division_test.py',
    ),
    (
      'parts_need_not_divide',
      'global_batch_size % (shards * parts)',
      'global_batch_size % shards',
      'A batch that its parts do not divide is let through to the compiler.',
      'distributed/mesh_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/distributed/state_sharding.py',
    (
      'qkv_divided_by_input',
      "(r'attention/qkv/kernel', ('fsdp', None, 'tensor', None))",
      "(r'attention/qkv/kernel', ('tensor', None, 'fsdp', None))",
      'Heads of queries, keys and values lie on other devices than attention.',
      'distributed/state_sharding_test.py',
    ),
    (
      'ffn_divided_alike',
      "(r'ffn_shrink/kernel', ('tensor', 'fsdp'))",
      "(r'ffn_shrink/kernel', ('fsdp', 'tensor'))",
      'The hidden layer is exchanged between the two products of an FFN.',
      'distributed/state_sharding_test.py',
    ),
    (
      'depthwise_divided',
      "(r'depthwise/kernel', (None, None, None, None))",
      "(r'depthwise/kernel', (None, None, None, 'fsdp'))",
      'The compiler divides maps by channels, and exchanges activations.',
      'distributed/state_sharding_test.py',
    ),
    (
      'small_arrays_divided',
      'MIN_SHARDED_SIZE = 2**14',
      'MIN_SHARDED_SIZE = 2**8',
      'Small arrays cost a collective each, and save nothing.',
      'distributed/state_sharding_test.py',
    ),
    (
      'longest_axis_divided',
      'key=lambda i: (i == wanted, shape[i])',
      'key=lambda i: shape[i]',
      'The longest axis is divided, not the one that the rule names.',
      'distributed/state_sharding_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/distributed/processes.py',
    (
      'one_process_too_many',
      'if not 0 <= self.process_id < self.num_processes:',
      'if not 0 <= self.process_id <= self.num_processes:',
      'Process 8 of 8 waits for the others until it gives up.',
      'distributed/processes_test.py',
    ),
    (
      'alone_in_a_cluster',
      'if not address or not count or count == 1:',
      'if not address or not count:',
      'A job of one process starts the service of many.',
      'distributed/processes_test.py',
    ),
    (
      'loop_not_hashed',
      "files = [package.parent / 'main.py', package.parent / 'train.py']",
      "files = [package.parent / 'main.py']",
      'Processes with different train.py go on together.',
      'distributed/processes_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/distributed/watchdog.py',
    (
      'broken_waits_as_long',
      'limit = BROKEN_SECONDS if is_broken else SILENCE_SECONDS',
      'limit = SILENCE_SECONDS',
      'After a collective broke, who is silent is named half a minute later.',
      'distributed/watchdog_test.py',
    ),
    (
      'the_first_is_behind',
      'fewest = min(beat.begun for beat in self._beats)',
      'fewest = max(beat.begun for beat in self._beats)',
      'The process that is ahead is called the one that hangs.',
      'distributed/watchdog_test.py',
    ),
    (
      'finished_is_hanging',
      'if seconds <= limit or self._beats[behind[0]].is_finished:',
      'if seconds <= limit:',
      'Processes that are done and wait for the last are ended.',
      'distributed/watchdog_test.py',
    ),
    (
      'slowest_has_no_time',
      'seconds = min((now - self._moved[i] for i in behind), default=0.0)',
      'seconds = max((now - self._moved[i] for i in behind), default=0.0)',
      'Who has just begun is laid to it that another one hangs.',
      'distributed/watchdog_test.py',
    ),
    (
      'no_grace',
      'if own and failed_for > GRACE_SECONDS:',
      'if own:',
      'An error of all processes is laid to one of them.',
      'distributed/watchdog_test.py',
    ),
    (
      'who_failed_is_silent',
      'if now - heard > limit and not self._beats[index].error',
      'if now - heard > limit',
      'A process that has said its error is called killed.',
      'distributed/watchdog_test.py',
    ),
  ),
  *in_file(
    'coatnet_jax/distributed/last_words.py',
    (
      'coordinator_lost',
      "if words['address'] and not _is_reachable(words['address']):",
      "if words['address']:",
      'Whoever is killed says that process 0 is gone.',
      'distributed/processes_test.py',
    ),
  ),
)
