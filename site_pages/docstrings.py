"""Docstrings as mkdocstrings reads them: examples become blocks of code."""

import re

import griffe

# Lines from '>>> ' to the next that is empty.
_EXAMPLE = re.compile(r'^>>> .*(?:\n.+)*', re.MULTILINE)


def fence_examples(text: str) -> str:
  """Returns a docstring whose examples stand in fences."""
  return _EXAMPLE.sub(lambda found: f'```pycon\n{found[0]}\n```', text)


class FencedExamples(griffe.Extension):
  """Puts the examples of each docstring into fences."""

  def on_object(self, *, obj: griffe.Object, **_) -> None:
    """Rewrites an object's docstring once it is read."""
    if obj.docstring:
      obj.docstring.value = fence_examples(obj.docstring.value)
