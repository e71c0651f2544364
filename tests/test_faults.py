"""Every fault that the project promises to handle has tests: row of the list of faults -> the tests that hold it.

Each row has at least one at the user's door (tests/api, tests/cli) or a full one in the room that handles it.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROWS: dict[int, tuple[str, tuple[str, ...]]] = {
    1: ("killed in the middle of a step", (
        "api/test_resume.py::test_killed_ten_times_equals_the_uninterrupted_run",
        "api/test_resume.py::test_killed_before_the_first_checkpoint",
        "loop/test_resume.py::test_resume_after_every_step",
    )),
    2: ("killed while a checkpoint is written", (
        "api/test_resume.py::test_a_damaged_checkpoint_and_a_torn_log_are_passed_over",
        "run/test_checkpoints.py::test_interrupted_at_every_system_call",
        "run/test_checkpoint_kills.py::test_killed_at_random_moments",
        "run/test_checkpoint_kills.py::test_killed_at_every_file_operation",
    )),
    3: ("killed while an event is written", (
        "api/test_resume.py::test_a_damaged_checkpoint_and_a_torn_log_are_passed_over",
        "run/test_events.py::test_the_log_cut_at_every_byte",
    )),
    4: ("disk full", (
        "api/test_faults.py::test_a_full_disk_leaves_the_old_checkpoint",
        "run/test_atomic.py::test_a_full_disk_leaves_the_old_file_and_no_other",
        "cli/test_faults.py::test_a_disk_that_fills_up_in_the_search",
    )),
    5: ("run folder read-only, or removed", (
        "api/test_faults.py::test_a_read_only_place_is_refused_before_training",
        "api/test_faults.py::test_a_folder_removed_during_the_run_stops_it",
    )),
    6: ("two trainers on one run", (
        "cli/test_faults.py::test_a_second_trainer_is_refused_and_the_first_goes_on",
        "cli/test_faults.py::test_a_stale_lock_is_taken_over_and_logged",
        "api/test_changed.py::test_two_trainers",
        "run/test_lock.py::test_only_one_of_many_that_find_a_stale_lock_takes_it",
    )),
    7: ("checkpoint damaged", (
        "api/test_resume.py::test_a_damaged_checkpoint_and_a_torn_log_are_passed_over",
        "api/test_changed.py::test_no_checkpoint_can_be_used",
        "run/test_checkpoints.py::test_damage_falls_back_to_the_older_one_and_says_so",
        "run/test_checkpoints.py::test_a_bit_in_every_byte_and_every_length",
    )),
    8: ("checkpoint of a newer version, or of an older one", (
        "cli/test_faults.py::test_a_checkpoint_of_a_newer_version",
        "cli/test_faults.py::test_a_run_of_a_newer_version_is_refused_but_still_shown",
        "cli/test_faults.py::test_a_run_that_did_not_know_a_setting_yet_goes_on_with_its_default",
        "cli/test_faults.py::test_a_checkpoint_that_lacks_what_this_version_needs",
    )),
    9: ("resume with a changed space, data or recipe", (
        "api/test_changed.py::test_a_changed_recipe",
        "api/test_changed.py::test_a_changed_space",
        "api/test_changed.py::test_other_data",
        "api/test_changed.py::test_other_objects",
    )),
    10: ("resume on another device", (
        "cli/test_faults.py::test_another_device_is_allowed_and_said_to_be_not_bit_exact",
        "api/test_device.py::test_a_run_from_a_machine_with_a_gpu",
    )),
    11: ("Ctrl-C once, twice; SIGTERM", (
        "api/test_resume.py::test_a_signal_stops_with_a_checkpoint",
        "api/test_resume.py::test_a_second_signal_stops_at_once",
    )),
    12: ("NaN or inf loss", (
        "api/test_faults.py::test_a_loss_that_is_not_finite_is_masked_and_then_named",
        "loop/test_not_finite.py::test_an_update_that_is_not_finite_is_left_out_and_counted",
        "loop/test_not_finite.py::test_the_first_layer_that_is_not_finite_is_named",
    )),
    13: ("exploding hypergradient", (
        "loop/test_steps.py::test_an_exploding_hypergradient_is_clipped_and_its_norm_reported",
        "api/test_faults.py::test_the_norm_of_every_hypergradient_is_in_the_log",
        "api/test_tune.py::test_a_hypergradient_that_explodes_is_clipped_and_its_norm_is_in_the_log",
        "loop/test_tuning.py::test_an_exploding_hypergradient_is_clipped_and_its_norm_reported",
    )),
    14: ("infinite objective from a trial", (
        "api/test_choosing.py::test_an_infinite_objective_is_a_failed_trial_and_never_the_best",
        "api/test_choosing.py::test_a_value_that_is_not_finite_fails_even_where_nothing_else_does",
        "loop/test_failures.py::test_an_evaluation_that_fails_is_never_the_best_and_says_why",
        "api/test_search.py::test_an_evaluation_that_diverges_is_a_failure_in_the_log_and_never_the_best",
    )),
    15: ("out of memory", (
        "api/test_memory.py::test_out_of_memory_is_named",
        "api/test_memory.py::test_what_is_too_large_for_the_whole_device_says_what_would_fit",
        "api/test_memory.py::test_the_need_is_in_the_log_and_short_memory_a_warning",
    )),
    16: ("every trial fails", (
        "api/test_choosing.py::test_every_trial_failing_stops_early_with_the_causes_grouped",
        "api/test_choosing.py::test_a_bug_in_a_loss_is_grouped_too",
        "cli/test_tune.py::test_every_trial_failing_is_one_line",
        "loop/test_failures.py::test_where_every_evaluation_fails_the_search_stops_early_with_the_causes_grouped",
        "api/test_search.py::test_every_evaluation_failing_stops_the_search",
    )),
    17: ("a distributed rank dies", (
        "api/test_ranks.py::test_a_rank_that_dies_ends_all_and_the_rest_can_go_on_alone",
        "bilevel/test_ranks.py::test_a_search_holds_the_same_everywhere_and_is_that_of_one_process_with_ghost_batches",
    )),
    18: ("torn Optuna journal, locked SQLite", (
        "api/test_choosing.py::test_a_torn_journal_is_mended",
        "api/test_choosing.py::test_a_journal_cut_anywhere_goes_on",
        "api/test_choosing.py::test_a_damaged_journal_says_the_way_out",
        "api/test_choosing.py::test_a_locked_database_is_tried_again_and_then_said",
    )),
    19: ("a pickle in a run or checkpoint", (
        "api/test_faults.py::test_a_pickle_is_never_executed",
        "run/test_checkpoints.py::test_a_pickle_in_the_place_of_a_checkpoint_is_refused_never_executed",
    )),
    20: ("weights of a wrong shape or name", (
        "cli/test_faults.py::test_every_weight_that_does_not_fit_is_listed",
        "cli/test_faults.py::test_every_weight_of_a_checkpoint_that_does_not_fit_is_listed",
        "exporters/test_weights.py::test_every_mismatch_is_listed_and_nothing_is_changed",
        "loop/test_resume.py::test_every_tensor_of_an_optimizer_that_does_not_fit_is_listed",
        "evaluation/test_training.py::test_every_misfit_of_a_checkpoint_is_listed_and_nothing_is_changed",
    )),
    21: ("unknown operation", (
        "api/test_faults.py::test_an_unknown_operation",
        "space/test_errors.py::test_an_unknown_operation",
    )),
    22: ("cycle, disconnected node, empty graph, duplicate name", (
        "api/test_faults.py::test_graphs_that_cannot_be",
        "space/test_errors.py::test_graphs_from_python",
        "space/test_errors.py::test_graphs_from_networkx",
        "space/test_errors.py::test_a_node_alone_in_networkx",
    )),
    23: ("shapes that do not fit on an edge", (
        "api/test_search.py::test_mistakes_are_found_before_a_folder_is_made",
        "space/test_errors.py::test_shapes_that_do_not_fit",
    )),
    24: ("a derived cell that is all none", (
        "api/test_faults.py::test_a_cell_without_a_path_trains_and_is_said",
        "space/test_errors.py::test_a_cell_of_nothing_runs",
    )),
    25: ("a huge space", (
        "api/test_memory.py::test_a_huge_space_is_measured_before_it_is_built",
        "space/test_properties.py::test_a_dense_graph_of_thousands_of_edges_is_a_space",
    )),
    26: ("run names that are no names", (
        "api/test_faults.py::test_run_names_that_cannot_be",
        "cli/test_commands.py::test_commands",
        "run/test_names.py::test_refused_with_one_inert_line_that_says_what_is_allowed",
        "cli/test_faults.py::test_a_resume_does_not_delete_or_write_through_a_link",
        "cli/test_faults.py::test_an_export_does_not_read_through_a_link",
        "cli/test_faults.py::test_a_forced_export_replaces_a_link_and_not_what_it_points_to",
    )),
    27: ("escape sequences, bidi marks, markup", (
        "cli/test_commands.py::test_hostile_names_are_inert_everywhere",
        "ui/test_panels.py::test_nothing_from_a_run_is_taken_for_markup_or_obeyed",
        "exporters/test_python.py::test_names_cannot_become_code",
        "ui/app/test_screens.py::test_hostile_names_are_shown_and_not_obeyed",
        "ui/page/test_page.py::test_hostile_words_are_words",
    )),
    28: ("data that is empty, one class, out of range, NaN, of wrong rank", (
        "api/test_faults.py::test_data_that_cannot_be",
        "data/test_check.py::test_empty",
        "data/test_check.py::test_one_class",
        "data/test_check.py::test_labels_out_of_range",
        "data/test_check.py::test_pixels_that_are_not_finite",
        "data/test_check.py::test_images_of_wrong_rank",
    )),
    29: ("splits that share examples", (
        "cli/test_faults.py::test_splits_that_share_images",
        "data/test_check.py::test_splits_that_share_images_are_refused_with_counts",
        "data/test_splits.py::test_disjoint_in_range_and_ascending",
    )),
    30: ("export target exists", (
        "cli/test_commands.py::test_export_and_its_refusal",
        "exporters/test_writing.py::test_what_is_there_stays_without_force",
        "ui/page/test_writing.py::test_what_is_there_is_kept_without_force",
    )),
    31: ("export to ONNX of an operation that has no mapping", (
        "exporters/test_onnx.py::test_an_operator_without_a_mapping_is_named_and_the_others_are_kept",
    )),
    32: ("an exported network that does not give the source's outputs", (
        "exporters/test_onnx.py::test_a_graph_that_computes_something_else",
        "exporters/test_process.py::test_a_difference_fails_the_export",
    )),
    33: ("a missing extra, or too old a torch", (
        "api/test_faults.py::test_an_old_or_missing_torch_says_the_command",
        "api/test_faults.py::test_a_missing_extra_says_the_command",
        "api/test_logs.py::test_a_package_that_is_missing_is_named_before_there_is_a_folder",
        "exporters/test_onnx.py::test_missing_packages_are_named_with_the_command",
        "api/test_faults.py::test_the_command_is_the_packages_own_requirement",
        "cli/test_faults.py::test_torch_missing_or_too_old",
    )),
    34: ("not a terminal, TERM=dumb, NO_COLOR, cp1252, 20x5", (
        "cli/test_commands.py::test_search_prints_lines_when_piped",
        "cli/test_commands.py::test_on_a_terminal",
        "cli/test_commands.py::test_any_encoding",
        "cli/test_commands.py::test_nobody_reads",
        "ui/app/test_command.py::test_without_a_terminal_it_says_what_to_use",
        "ui/app/test_screens.py::test_too_small",
        "ui/app/test_screens.py::test_no_color_is_obeyed",
    )),
    35: ("the viewer is killed", (
        "cli/test_faults.py::test_a_killed_viewer_does_not_reach_the_search",
        "ui/test_live.py::test_a_viewer_that_is_killed_gives_the_terminal_back",
        "ui/app/test_tmux.py::test_a_kill_gives_the_terminal_back",
    )),
    36: ("the event log cut at every byte, an event of an unknown kind", (
        "cli/test_faults.py::test_no_event_stops_a_view",
        "cli/test_faults.py::test_a_log_cut_anywhere_is_shown",
        "ui/test_follow.py::test_a_log_cut_at_every_byte_is_read_up_to_its_last_whole_line",
        "ui/test_state.py::test_whatever_a_log_holds_every_view_can_show_it",
        "ui/page/test_page.py::test_a_log_cut_at_every_byte_still_gives_a_page",
    )),
    37: ("the clock jumps back", (
        "api/test_faults.py::test_a_clock_that_jumps_back",
        "run/test_events.py::test_elapsed_accumulates_over_resumes_and_ignores_the_wall_clock",
    )),
    38: ("an empty recipe, unknown key, wrong type, out of range", (
        "recipe/test_reading.py::test_all_mistakes_at_once",
        "recipe/test_reading.py::test_a_mistake_is_a_line_with_its_path",
        "recipe/test_reading.py::test_files_that_are_no_recipes",
        "cli/test_commands.py::test_all_mistakes_of_a_recipe_are_lines",
    )),
    39: ("JSON with NaN", (
        "run/test_atomic.py::test_what_is_not_json_is_never_written",
        "run/test_events.py::test_numbers_that_are_not_finite_are_null_with_their_kind",
        "api/test_faults.py::test_a_loss_that_is_not_finite_is_masked_and_then_named",
    )),
    40: ("a finished run is resumed", (
        "api/test_resume.py::test_a_finished_run_is_not_touched",
    )),
}  # fmt: skip

PROMISED = {*range(1, 41)}


def test_every_promised_row_is_in_the_table() -> None:
    assert set(ROWS) == PROMISED


@pytest.mark.parametrize("row", sorted(ROWS))
def test_a_row_has_tests_that_are_there(row: int) -> None:
    fault, tests = ROWS[row]
    assert tests, f"{row} ({fault}) has no test"
    for place in tests:
        name, _, function = place.partition("::")
        tree = ast.parse((Path(__file__).parent / name).read_text(encoding="utf-8"))
        there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function in there, f"row {row} ({fault}): {place} is gone"
