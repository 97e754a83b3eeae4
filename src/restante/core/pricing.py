"""What a task costs: the fee, the hold taken at posting and the charge at settlement (contract §6, §12.8)."""

from __future__ import annotations

from typing import Final

from restante.core.money import Nano

#: The prepayment for the model's own cost, per task. What the model did not use of it is returned.
PREPAYMENT: Final = Nano(10_000_000)  # $0.01

#: restante's own fee per answered task.
STANDARD_FEE: Final = Nano(200_000)  # $0.0002, task_post
LIVE_FEE: Final = Nano(600_000)  # $0.0006, live

STANDARD_HOLD: Final = Nano(PREPAYMENT + STANDARD_FEE)  # $0.0102
LIVE_HOLD: Final = Nano(PREPAYMENT + LIVE_FEE)  # $0.0106


def charge(fee: Nano, money_spent: Nano) -> Nano:
    """What an answered task costs its account: the fee and what the model's provider took.

    It may exceed the hold, then the balance pays the rest (contract §12.8). A task without an answer is
    charged nothing; that case never comes here.
    """
    return Nano(fee + money_spent)
