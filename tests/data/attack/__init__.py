"""An attack on the decoder: damaged pictures, and small files that exhaust.

    python -m tests.data.attack --mutations=20000

Every picture goes through what training and evaluation call for an example, in
a process of its own, which measures for each the processor's seconds, the
memory and what is written to stderr, and which may die or hang. The exit status
is 0 where each became a picture or a `CorruptImageError`, in less than a second
and 512 MiB, without a word on stderr.
"""
