"""Billing (§6)."""

from __future__ import annotations

from tests.contract.row import DOCUMENTED, OUR_CHOICE, SEEN, Row

ROWS = [
    Row("6 Live base fee", SEEN, "0.0006, and money_spent"),
    Row("6 Standard base fee", DOCUMENTED, "0.0002"),
    Row("6 Standard prepayment", DOCUMENTED, "0.01 a task, so 0.0102 at posting"),
    Row("6 Refund", DOCUMENTED, "what the model did not take of the 0.01"),
    Row("6 LLM cost above 0.01", OUR_CHOICE, "the balance pays the rest and may fall below zero"),
    Row("6 Not done in 72 h", OUR_CHOICE, "fee and hold both return"),
    Row("6 LLM error (50301)", OUR_CHOICE, "costs nothing, Standard or Live"),
    Row("6 When charged", DOCUMENTED, "only posting and live cost anything"),
    Row("6 Negative balance", DOCUMENTED, "finished results are withheld"),
    Row("6 money_spent", DOCUMENTED, "the provider's price of tokens and search"),
    Row("6 cost at task_post", DOCUMENTED, "0.0102 a task, the sum on top"),
    Row("6 cost at task_get", OUR_CHOICE, "0"),
    Row("6 cost at id_list after refund", OUR_CHOICE, "what was finally charged (see 12.13)"),
    Row("6 Priorities", DOCUMENTED, "no field; user_data lists them all the same"),
    Row("6 Measured Gemini Live", SEEN, "what others paid", absent="an observation, no rule"),
    Row('6 "Standard is cheaper?"', SEEN, "what others reckoned", absent="an observation, no rule"),
    Row("6 Account rules", DOCUMENTED, "deposits and trials", absent="the operator opens accounts and tops them up"),
    Row("6 Rejected field", SEEN, "cost 0"),
]
