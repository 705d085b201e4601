"""Random programs: networks made of the operations that the tracer has rules for, and of a few that it has not.

A program is source code, made by :func:`generate` from a sequence of decisions: those of hypothesis (:func:`programs`)
or those of a seed (:func:`program_of_seed`).
"""

from tests.programs.generate import Program, generate, program_of_seed, programs

__all__ = ["Program", "generate", "program_of_seed", "programs"]
