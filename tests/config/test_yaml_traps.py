"""What YAML and JSON drop or misread is told with its line, and nothing else is."""

import pytest

from prunegrid.config.config_files import ConfigError, read_files

GOOD = """
a: {one: "no", two: 'on', three: 1.0e-3, four: 10, five: "2:4", six: 0.5, seven: 0, eight: -1}
base: &base {rate: 2.0e-4, names: [x, y]}
more: {<<: *base, name: yesterday}
again: {<<: *base, path: /no/1e3.txt, time: 1.5}
"""


def faults(tmp_path, text, name="mine.yaml"):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_files([path])
    return caught.value.faults


def test_plain_data_is_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    tree = read_files([path])
    assert tree["a"]["three"] == 0.001 and tree["again"]["rate"] == 0.0002


@pytest.mark.parametrize(
    "text,line,word",
    [
        ("a: 1\nb: 2\na: 3\n", 3, "`a` stands twice"),
        ("a:\n  b: {x: 1, y: 2, x: 3}\n", 2, "`x` stands twice"),
        ("a: [{n: 1, n: 2}]\n", 1, "`n` stands twice"),
        ("rate: 1e-3\n", 1, "write 1.0e-3"),
        ("rate: 2.5e4\n", 1, "write 2.5e+4"),
        ("a: 1\nseed: 010\n", 2, "write 10"),
        ("pattern: 4:8\n", 1, '"4:8" in quotes'),
        ("language: no\n", 1, "write false"),
        ("on: {x: 1}\n", 1, "write true"),
    ],
)
def test_a_trap_is_told_with_its_line(tmp_path, text, line, word):
    (told,) = faults(tmp_path, text)
    assert f"mine.yaml, line {line}:" in told and word in told


def test_all_traps_are_told_in_their_order(tmp_path):
    told = faults(tmp_path, "a: 1e-3\nb: {c: no, c: 1:30}\n")
    assert [part.partition(":")[0] for part in told] == ["mine.yaml, line 1"] + [
        "mine.yaml, line 2"
    ] * 3


def test_a_key_that_stands_twice_in_json_is_told(tmp_path):
    (told,) = faults(tmp_path, '{"studies": {"a": 1, "a": 2}}', "mine.json")
    assert "`a` stands twice" in told


def test_numbers_of_json_are_numbers(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"rate": 1e-3}')
    assert read_files([path]) == {"rate": 0.001}
