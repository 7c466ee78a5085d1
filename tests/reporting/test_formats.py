from pneumo_keras.reporting.formats import format_table


def test_columns_are_as_wide_as_their_longest_cell():
    rows = [["AUC", "0.9710", "DeLong"], ["log loss", "12.5000", ""]]
    assert format_table(rows, header=["", "value", "method"], align="lrl").splitlines() == [
        "            value  method",
        "AUC        0.9710  DeLong",
        "log loss  12.5000",
    ]


def test_numbers_appear_as_they_are_written():
    assert format_table([["1.50", "1e-05", "-0.0"]]) == "1.50  1e-05  -0.0"


def test_no_rows_give_no_text():
    assert format_table([], header=["one", "two"], align="lr") == ""
