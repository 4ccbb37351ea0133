"""Where each planted fault was seen when plans were last drawn otherwise: where to look first, and no more than that.

`python -m tests.simulation.run --faults` finds them anew if they are not there any more.
"""

from __future__ import annotations

from typing import Final

SEEN: Final[dict[str, int]] = {
    "a_clock_that_goes_back": 8,
    "any_number_in_flight": 8,
    "any_number_of_subscriptions": 20,
    "confirm_before_synced": 5,
    "drop_what_is_refused": 197,
    "execute_behind_a_gap": 238,
    "forget_operations": 3,
    "forget_the_result_of_an_operation": 11,
    "forget_who_is_behind": 36,
    "hold_without_bound": 53,
    "mark_the_one_before_too": 6,
    "old_tokens_stay_good": 84,
    "refuse_before_dedupe": 9,
    "remember_the_unknown": 19,
    "replay_out_of_order": 15,
    "resend_out_of_order": 38,
    "retry_under_a_new_id": 8,
    "reuse_a_session": 8,
    "serve_without_a_session": 5,
    "skip_dedupe": 5,
    "store_after_abort": 261,
    "take_any_number": 48,
    "trust_that_answers_arrive": 13,
}
