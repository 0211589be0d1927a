"""Prompts that run together find each other: never fewer hits than stock for want of a finish."""

from tests.sglang_cpu.concurrency import (  # noqa: F401 - collected here
    test_a_prompt_that_was_cut_finds_room_for_its_rest,
    test_a_state_that_another_request_used_stays,
    test_every_branch_point_of_prompts_that_arrive_together_is_cached,
    test_no_fewer_hits_than_stock_for_want_of_a_finish,
    test_prompts_with_a_shared_prefix_that_arrive_one_by_one,
    test_prompts_with_the_same_branch_point_that_arrive_together,
    test_states_on_probation_go_with_their_request,
    test_without_probation_there_are_fewer,
)
