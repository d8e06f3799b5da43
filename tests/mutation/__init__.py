"""Small mistakes, put into a copy of the code one at a time.

    python -m tests.mutation                       all; an hour on two cores
    python -m tests.mutation --part=3/40           a fortieth, as CI does
    python -m tests.mutation --only='ema*' --jobs=1
    python -m tests.mutation --list                what there is

A mistake is what a careless change would do: `mistake.Mistake`, a piece of text
of a file, what stands there instead, a sentence, and the tests that notice it.
The lists are by room, `mistakes_*.py`. To add one:

1. Write the mistake down beside its like. `old` is found once in the file; take
   the shortest such text, which other changes leave alone.
2. Name the narrowest tests of the default suite that notice it, the likeliest
   first: a file, or one test (`training/mixup_test.py::test_cutmix_boxes`).
3. `python -m tests.mutation --only=NAME`. Where nothing notices it, the tests
   lack something: write that test. A mistake that changes nothing is not one;
   what no test on a CPU can see has `unnoticed`, the reason.

The exit status is 0 only where every mistake is noticed. Mistakes that survive,
whose text is no longer there, that take too long, and tests that fail without
the mistake too, each count against it: `runner.Outcome`.
"""
