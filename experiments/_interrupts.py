"""Interrupts, until all studies use those of ``common``."""

from experiments.common.interrupts import check, handled, received, stop

told = received
__all__ = ["check", "handled", "stop", "told"]
