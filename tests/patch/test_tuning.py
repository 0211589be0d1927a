"""Alpha tuned by a process beside the server; what happens when that process fails."""

from tests.sglang_cpu.tuning import (  # noqa: F401 - collected here
    test_a_given_alpha_is_not_tuned,
    test_a_new_alpha_is_taken_while_serving,
    test_a_process_that_does_not_read_is_given_up,
    test_a_process_that_does_not_start_is_reported,
    test_alpha_becomes_what_the_simulator_says,
    test_alpha_stays_when_nothing_tunes_it_any_more,
    test_flushing_starts_the_tuner_over,
    test_prefixes_that_are_kept_apart_are_left_out,
    test_serving_goes_on_when_the_process_dies,
    test_what_was_tuned_for_a_cache_that_is_flushed_is_not_taken,
)
