"""The questions that a buyer asks: the headings of docs/answers.md, where the answers in words stand."""

from __future__ import annotations

from typing import Final

FAST: Final = "How fast does an alarm arrive?"
RECEIVES: Final = "Who receives it?"
LOCATION: Final = "Is the location sent, and how is it determined?"
LISTEN: Final = "Can they listen in at once?"
STEPS: Final = "Who received it, who responds, what steps were taken?"
ADDRESS: Final = "Is the exact address behind the door known?"
CHECK_IN: Final = "Check-in and check-out?"
CODE_WORD: Final = "A code word?"
EVIDENCE: Final = "Is the recording usable as evidence?"
CHARGED: Final = "Is the button charged and worn?"
DISCREET: Final = "Discreet?"
EVALUATED: Final = "Evaluated afterwards?"

QUESTIONS: Final = (
    FAST,
    RECEIVES,
    LOCATION,
    LISTEN,
    STEPS,
    ADDRESS,
    CHECK_IN,
    CODE_WORD,
    EVIDENCE,
    CHARGED,
    DISCREET,
    EVALUATED,
)  # in the order in which they are asked
