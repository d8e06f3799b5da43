"""What the commands of documents need, and which of them run elsewhere.

Every command of every shell block that no table here names is run by
`shell_blocks_test.py`, as it stands: in a directory where `WORKDIR`, `FOLDER`
and the others are what the documents say, and with what `FILLED` and `ADDED`
change, which is all.
"""

import dataclasses
import fnmatch

from tests import documents

# What documents call a run's workdir, a folder of pictures, a file of weights.
RUNS = (
  *('WORKDIR', 'WORKDIR2', 'OTHER_WORKDIR', 'DIRECTORY'),
  *('runs/quickstart', 'runs/mine'),
)
FOLDERS = ('FOLDER', 'IMAGES', 'PICTURES', 'pictures')
WEIGHTS = (
  *('FILE', 'FILE.safetensors'),
  'coatnet_0_rw_224.sw_in1k.safetensors',
)
# Words that stand for something of the reader's, or that would take long.
FILLED = {
  'IMAGE...': 'pictures/shoes/1002.png',
  '--config=CONFIG': '--config=configs/image_folder.py',
  '--class=NAME': '--class=shoes',
  '--checkpoint=WORKDIR/checkpoints/STEP': '--checkpoint=WORKDIR/checkpoints/2',
  # The tiny run's model is of 32 px, and has one block and three heads there.
  '--block=s3_block_1': '--block=s3_block_0',
  '--position=120,200': '--position=12,20',
  '--steps=256': '--steps=2',
  '--image_size=224,384': '--image_size=32,64',
  '--image_size=384': '--image_size=64',
  '--image_size=384x256': '--image_size=64x32',
  '--config.preprocessing.image_size=(384,384)': (
    '--config.preprocessing.image_size=(64,64)'
  ),
  # Pictures are named by a number.
  r'--config.data.group_pattern=patient(\d+)': (
    r'--config.data.group_pattern=(\d+)\.png'
  ),
  # Its own data, where the page's example is a data set that is downloaded.
  '--data.name=cifar100': '--data.name=my_set',
  '--data.eval_split=test': '--data.eval_split=validation',
  '--fewshot=1,5,10': '--fewshot=1',
  '--data.data_dir=DIR': '--data.data_dir=FOLDER',
  # Sooner over.
  '--config.training.num_steps=2000': '--config.training.num_steps=2',
  '--rate=20': '--rate=5',
  '--seconds=60': '--seconds=1',
}

# Two steps of few pictures, without what is tested elsewhere.
_TWO_STEPS = (
  '--config.training.num_steps=2',
  '--config.training.num_epochs=0',
  '--config.training.global_batch_size=8',
  '--config.evaluation.global_batch_size=32',
  '--config.logging.report=False',
  '--config.logging.image_grid_size=0',
)
# Of the model of `quick_models.TINY`, where nothing says which model it is.
SMALL = ('--config.model.name=tiny', '--config.preprocessing.image_size=32,32')
# What is added to a command that begins so, the first that fits.
ADDED = (
  (
    'python main.py --config=CONFIG *',
    (*_TWO_STEPS, '--config.data.data_dir=FOLDER'),
  ),
  ('python main.py --config=configs/quickstart.py *', (*_TWO_STEPS, *SMALL)),
  ('python main.py *--config.init_from=*', _TWO_STEPS),
  ('python main.py *', (*_TWO_STEPS, *SMALL)),
  # DIR is a file's weights here, which came without a data set.
  (
    'python -m tools.evaluate --checkpoint=DIR --data.data_dir=FOLDER ',
    ('--data.source=folder',),
  ),
  ('python -m tools.serve *', ('--port=0', '--maps=grad_cam')),
  ('python -m tools.export *', ('--pictures=8',)),
  ('tensorboard *', ('--port=0',)),
)

# Programs that serve until they are stopped, and who asks them: in one test.
SERVERS = ('python -m tools.serve *', 'tensorboard *')
CLIENTS = (
  'curl *http://127.0.0.1:8000/*',
  'python -m benchmarks.serving_load *',
)


@dataclasses.dataclass(frozen=True)
class Elsewhere:
  """Where a command is run instead.

  Attributes:
    file: path of the file, from the root.
    text: text of it, that runs the command.
  """

  file: str
  text: str


def _in_ci(text: str) -> Elsewhere:
  return Elsewhere('.ci/run', text)


# Patterns of commands, and who runs them.
ELSEWHERE = {
  'python3 -m venv .venv': _in_ci("grep -E '^python3 -m venv ' README.md"),
  '. .venv/bin/activate': _in_ci("grep -E '^python3 -m venv ' README.md"),
  'pip install -q -r requirements.txt': _in_ci('"${commands[0]}"'),
  'pip install -q -r requirements-test.txt': _in_ci('"${commands[1]}"'),
  'python main.py --config=configs/quickstart.py --workdir=runs/quickstart': (
    _in_ci('"${commands[0]}"')
  ),
  'python -m pytest': _in_ci('"${commands[1]}"'),
  'ruff check .': _in_ci('ruff check .'),
  'ruff format .': _in_ci('ruff format --check .'),
  'mypy': _in_ci('\nmypy\n'),
  'pip install -q -r requirements-docs.txt': _in_ci('-r requirements-docs.txt'),
  'mkdocs build --strict': Elsewhere(
    'tests/site_pages/build_test.py', '--strict'
  ),
  'pip install -r requirements-tpu-compiler.txt': _in_ci(
    '-r requirements-tpu-compiler.txt'
  ),
  'pip install -r requirements-serve.txt': Elsewhere(
    'requirements-test.txt', '-r requirements-serve.txt'
  ),
  'pip install -r requirements-export.txt': _in_ci(
    '-r requirements-export.txt'
  ),
  'pip install -r requirements-parity.txt': _in_ci(
    '-r requirements-parity.txt'
  ),
  'pip install -r requirements-beam.txt': _in_ci('-r requirements-beam.txt'),
  'pip install --no-deps timm==1.0.31': _in_ci('--no-deps timm==1.0.31'),
  'python -m pytest -m tpu_compiler *': _in_ci('pytest -m tpu_compiler'),
  'python -m pytest tests/*_test.py': _in_ci('"${commands[1]}"'),
  'python -m tools.prepare_emoji *': Elsewhere(
    'tests/tools/prepare_emoji_test.py', 'def test_packages_become_data_sets'
  ),
  'python -m tools.prepare tfds *': Elsewhere(
    'tests/tools/prepare_test.py', 'def test_a_tfrecord_data_set_is_converted'
  ),
  'python -m tools.export *--format=onnx *': Elsewhere(
    'tests/export/runtimes_test.py', 'onnx'
  ),
  'python -m tools.export *--format=tflite *': Elsewhere(
    'tests/export/runtimes_test.py', 'tflite'
  ),
  'python -m tools.hub push *--private *': Elsewhere(
    'tests/tools/hub_test.py', 'def test_there_and_back'
  ),
  'python -m tools.hub pull *': Elsewhere(
    'tests/tools/hub_test.py', 'def test_there_and_back'
  ),
}

# Patterns of commands that cannot be run in CI, by the reason. That their flags
# and configs exist is tested all the same, in `documents_test.py`.
NOT_HERE = {
  'a pod, its hosts and a bucket': (
    'launch/tpu_vm.sh *',
    'tpu *',
    'tpu() *',
    '}',
    'python3 -m pip install --user uv',
    '.local/bin/uv *',
    '.venv/bin/python main.py *gs://*',
    'docker *',
    'kubectl *',
    'python main.py *--coordinator_address=10.0.0.1:8476 *',
  ),
  'a GPU': (
    'pip install -r requirements-gpu.txt',
    'python -m benchmarks.gpu_check *',
    'python main.py --config=configs/coatnet_0.py:imagenet1k_one_gpu *',
  ),
  'ImageNet': (
    'python -m tools.prepare imagenet* --output_dir=DATA *',
    'python main.py --config=configs/coatnet_[24].py:*',
    'python -m tools.evaluate --checkpoint=runs/c2_21k_512',
    'python -m tools.evaluate *--data.name=imagenet2012_real,*',
    'python -m tools.evaluate *--data.data_dir=IMAGENET',
    'tar -xf imagenet-r.tar -C DATA',
    'python -m tools.evaluate *--data.eval_split=imagenet-r',
    'python -m tools.prepare folder --source_dir=imagenet-r *',
  ),
  'the Hugging Face Hub': ('python main.py *--config.init_from=hf-hub:*',),
  'a cluster of Flink': ('python -m tools.prepare *--runner=FlinkRunner *',),
  'the whole of Fashion-MNIST, a package of Debian': (
    'python -m tools.prepare idx *',
  ),
  "the TPU's compiler, for minutes: tests/tpu_compiler has small programs": (
    'python -m tools.benchmark_attention*',
    'python -m tools.plan *',
    'python -m benchmarks.pod_plans *',
  ),
  'minutes or hours of a whole machine, to measure it': (
    'python -m benchmarks.versus_timm*',
    'python -m benchmarks.train_step *',
    'python -m benchmarks.study *',
  ),
}


def list_commands() -> dict[str, list[str]]:
  """Returns the words of each command of the shell blocks, by its text."""
  return {
    ' '.join(words): words
    for block in documents.find_blocks('bash')
    for words in documents.split_commands(block.text)
  }


def matches(command: str, patterns: tuple[str, ...]) -> list[str]:
  """Returns those of the patterns that a command has."""
  return [p for p in patterns if fnmatch.fnmatchcase(command, p)]


def list_patterns() -> tuple[str, ...]:
  """Returns the patterns of all commands that are not run here."""
  return (*ELSEWHERE, *(p for part in NOT_HERE.values() for p in part))


def fill(words: list[str]) -> list[str]:
  """Returns a command that can be run, of one as it is printed.

  Args:
    words: words of the command, as documents have it.
  """
  command = ' '.join(words)
  filled = [FILLED.get(word, word) for word in words]
  for pattern, added in ADDED:
    if matches(f'{command} ', (pattern,)):
      return [*filled, *added]
  return filled


def unify(words: list[str]) -> str:
  """Returns the text of a command that others share but for names of things.

  Args:
    words: words of the command, as documents have it.
  """
  same = []
  for word in words:
    option, equals, value = word.rpartition('=')
    for kind in (RUNS, FOLDERS, WEIGHTS):
      value = kind[0] if value in kind else value
    same.append(f'{option}{equals}{value}')
  return ' '.join(same)
