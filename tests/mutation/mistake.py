"""What a mistake is; the lists of them are beside this file."""

import ast
import dataclasses
import functools
import pathlib

# Where a mistake can be made: a folder, or a file of the root.
ROOMS = (
  'train.py',
  'main.py',
  'configs',
  'tools',
  'benchmarks',
  'benchmarks/gpu',
  'benchmarks/attention',
  'benchmarks/step',
  'benchmarks/versus',
  'coatnet_jax',
  'coatnet_jax/checkpoints',
  'coatnet_jax/data',
  'coatnet_jax/data/picture_files',
  'coatnet_jax/data/preparation',
  'coatnet_jax/distributed',
  'coatnet_jax/evaluation',
  'coatnet_jax/explanation',
  'coatnet_jax/export',
  'coatnet_jax/figures',
  'coatnet_jax/models',
  'coatnet_jax/ops',
  'coatnet_jax/ops/relative_attention',
  'coatnet_jax/ops/relative_attention/pallas',
  'coatnet_jax/planning',
  'coatnet_jax/publishing',
  'coatnet_jax/replay',
  'coatnet_jax/reports',
  'coatnet_jax/reports/multi_label',
  'coatnet_jax/serving',
  'coatnet_jax/tpu_compiler',
  'coatnet_jax/training',
  'coatnet_jax/weights',
  'site_pages',
)


class MistakeError(Exception):
  """A mistake that cannot be made: the code has changed, or it never could."""


@dataclasses.dataclass(frozen=True)
class Mistake:
  """A small change for the worse.

  Attributes:
    name: word for the mistake, of its own.
    file: path of the file that it is made in, from the root.
    old: text that the file has exactly once.
    new: text in the place of `old`.
    sentence: sentence on what the careless change does.
    tests: files and tests that notice it, as pytest takes them, below tests/.
    unnoticed: reason why no test of the default suite can notice it, or ''.
  """

  name: str
  file: str
  old: str
  new: str
  sentence: str
  tests: tuple[str, ...]
  unnoticed: str = ''

  @property
  def room(self) -> str:
    """The one of `ROOMS` that it is made in."""
    folder = str(pathlib.PurePosixPath(self.file).parent)
    return self.file if folder == '.' else folder

  def apply(self, text: str) -> str:
    """Returns the text of the file with the mistake in it.

    Args:
      text: text of the file as it is.

    Raises:
      MistakeError: `old` is not there exactly once, nothing changes, or what
        comes out is no Python.
    """
    count = text.count(self.old)
    if count != 1:
      raise MistakeError(f'its text is {count} times in {self.file}, not once')
    changed = text.replace(self.old, self.new)
    if self.file.endswith('.py'):
      try:
        program = _dump(changed)
      except SyntaxError as error:
        raise MistakeError(f'{self.file} is no Python with it') from error
      if program == _dump(text):
        raise MistakeError('it changes nothing that runs')
    return changed


@functools.lru_cache(maxsize=2)
def _dump(text: str) -> str:
  return ast.dump(ast.parse(text))


def in_file(file: str, *rows: tuple[str, ...]) -> tuple[Mistake, ...]:
  """Returns the mistakes of a file.

  Args:
    file: path of the file that they are made in, from the root.
    *rows: name, `old`, `new`, sentence, tests with spaces between them, and
      `unnoticed` where it has that, of each mistake.
  """
  return tuple(
    Mistake(name, file, old, new, sentence, tuple(tests.split()), *reason)
    for name, old, new, sentence, tests, *reason in rows
  )
