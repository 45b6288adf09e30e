"""Tables from CSV: kinds of columns, missing cells, tensors, and messages that name file, line, column and cell."""

import numpy as np
import pytest

import chainrule
from chainrule.data import NA_VALUES, DataFileError, Table, read_csv

PEOPLE = """age,height,city,survived
30,1.75,Bern,1
41,1.60,"Rome, Italy",0
25,1.82,Bern,1
"""


@pytest.fixture
def write(tmp_path):
    def put(text, encoding="utf-8"):
        path = tmp_path / "people.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return put


def test_kinds_are_seen(write):
    table = read_csv(write(PEOPLE), target="survived")
    assert len(table) == 3
    assert table["age"].dtype == np.int64
    assert table["height"].dtype == np.float64
    assert table["city"].tolist() == ["Bern", "Rome, Italy", "Bern"]
    assert table.number_names == ["age", "height"]
    assert table.category_names == ["city"]
    assert table.feature_names == ["age", "height", "city=Bern", "city=Rome, Italy"]
    assert "survived: int64 (target)" in repr(table)


def test_tensors(write):
    table = read_csv(write(PEOPLE), target="survived")
    features = table.features()
    assert features.dtype == chainrule.float32
    expected = np.array([[30, 1.75, 1, 0], [41, 1.6, 0, 1], [25, 1.82, 1, 0]], np.float32)
    assert np.array_equal(features.numpy(), expected)
    assert np.array_equal(table.numbers(["height"]).numpy(), expected[:, 1:2])
    assert table.target().dtype == chainrule.int64
    assert table.target().tolist() == [1, 0, 1]
    assert read_csv(write(PEOPLE), target="city").target().tolist() == [0, 1, 0]
    assert read_csv(write(PEOPLE), target="height").target().dtype == chainrule.float32


def test_parts_are_encoded_like_the_whole(write):
    table = read_csv(write(PEOPLE), target="survived")
    for rows in (slice(0, 1), [0], np.array([True, False, False]), chainrule.tensor([0])):
        part = table[rows]
        assert len(part) == 1
        assert part.features().shape[1] == 4
        assert part.target().tolist() == [1]


def test_chosen_columns_and_kinds(write):
    table = read_csv(write(PEOPLE), target="survived", columns=["age"], dtypes={"age": "category"})
    assert list(table.columns) == ["age", "survived"]
    assert table.categories == {"age": ("25", "30", "41")}
    assert read_csv(write(PEOPLE), dtypes={"age": float})["age"].dtype == np.float64


@pytest.mark.parametrize("declared", [{}, {"b": "float"}, {"b": float}])
def test_a_bad_cell_is_named(write, declared):
    path = write('a,b\n"two\nlines",2.5\n\nx,oops\ny,1\nz,3\n')
    with pytest.raises(DataFileError) as error:
        read_csv(path, dtypes=declared)
    for word in (
        f"{path}: line 5, column 'b': the cell 'oops' is not a number",
        "got:      'oops'",
        "fix:",
        "na_values",
    ):
        assert word in str(error.value)


def test_a_bad_cell_says_why_a_number_was_expected(write):
    with pytest.raises(DataFileError, match="2 of its 3 cells are numbers"):
        read_csv(write("a\n1\n2\n3..5\n"))
    with pytest.raises(DataFileError, match=r"and 1 more like it.*\n.*dtypes says 'int'"):
        read_csv(write("a\n1\n2.5\n3.5\n"), dtypes={"a": "int"})
    for cell in ("inf", "1e999"):
        with pytest.raises(DataFileError, match=f"the cell '{cell}' is not a number"):
            read_csv(write(f"a\n1\n2\n{cell}\n"))


def test_the_ways_out_that_a_bad_cell_names(write):
    path = write("a\n1\n2\n-\n")
    assert read_csv(path, na_values=[*NA_VALUES, "-"], missing="drop")["a"].tolist() == [1, 2]
    assert read_csv(path, dtypes={"a": "category"})["a"].tolist() == ["1", "2", "-"]


GAPS = "x,c\n1,a\n,b\n3,?\n5,a\n"


def test_missing_cells_are_an_error_unless_said(write):
    path = write(GAPS)
    with pytest.raises(DataFileError) as error:
        read_csv(path)
    for word in (f"{path}: line 3, column 'x'", "x 1, c 1", "missing='drop'"):
        assert word in str(error.value)


def test_policies(write):
    path = write(GAPS)
    dropped = read_csv(path, missing="drop")
    assert dropped["x"].tolist() == [1.0, 5.0]
    assert dropped["c"].tolist() == ["a", "a"]
    filled = read_csv(path, missing={"x": "mean", "c": "most_frequent"})
    assert filled["x"].tolist() == [1.0, 3.0, 3.0, 5.0]
    assert filled["c"].tolist() == ["a", "b", "a", "a"]
    assert read_csv(path, missing={"x": "median", "c": "keep"})["c"].tolist() == ["a", "b", "", "a"]
    kept = read_csv(path, missing="keep")
    assert np.isnan(kept["x"]).tolist() == [False, True, False, False]
    # What fills is computed from the rows that stay: the 3 goes with its row.
    assert read_csv(path, missing={"x": "mean", "c": "drop"})["x"].tolist() == [1.0, 3.0, 5.0]
    skewed = write("x,c\n1,a\n,b\n9,?\n5,a\n")
    assert read_csv(skewed, missing={"x": "mean", "c": "drop"})["x"].tolist() == [1.0, 3.0, 5.0]


def test_policies_that_do_not_fit(write):
    path = write(GAPS)
    with pytest.raises(ValueError, match="missing='zero' is no policy"):
        read_csv(path, missing="zero")
    with pytest.raises(ValueError, match="is text, which has no mean"):
        read_csv(path, missing="mean")
    with pytest.raises(DataFileError, match="nothing to fill"):
        read_csv(write("x,y\n,1\n,2\n"), missing={"x": "mean"}, dtypes={"x": "float"})


def test_an_unknown_column(write):
    for options in ({"target": "survive"}, {"columns": ["survive"]}, {"dtypes": {"survive": "int"}}):
        with pytest.raises(KeyError) as error:
            read_csv(write(PEOPLE), **options)
        text = str(error.value)
        assert "has no column 'survive'; did you mean 'survived'?" in text
        assert "its columns: age, height, city, survived" in text
    with pytest.raises(ValueError, match=r"no column 'agee'; did you mean 'age'"):
        read_csv(write(PEOPLE))["agee"]
    with pytest.raises(ValueError, match="'number' is no kind of column"):
        read_csv(write(PEOPLE), dtypes={"age": "number"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", r"line 3 does not have one cell per column(.|\n)*got: +1 cells: '3'"),
        ("a,b\n1,2\n3,4,5\n", r"line 3 does not have(.|\n)*got: +3 cells: '3,4,5'"),
        ("a,a\n1,2\n", "'a' more than once"),
        ("", "an empty file"),
        ("a,b\n", "no rows"),
        ('a,b\n1,"2\n3,4\n', "cannot be read as a table"),
    ],
)
def test_files_that_are_no_tables(write, text, message):
    path = write(text)
    with pytest.raises(DataFileError, match=message) as error:
        read_csv(path)
    assert str(path) in str(error.value)


def test_encodings_and_delimiters(write):
    path = write("größe;ort\n1,5;Zürich\n", "latin-1")
    with pytest.raises(DataFileError, match="encoding"):
        read_csv(path, delimiter=";")
    assert read_csv(path, delimiter=";", encoding="latin-1")["ort"].tolist() == ["Zürich"]
    assert list(read_csv(write("\ufeffa\n1\n")).columns) == ["a"]


def test_questions_a_table_cannot_answer(write):
    table = read_csv(write(PEOPLE))
    with pytest.raises(ValueError, match="no target"):
        table.target()
    with pytest.raises(TypeError, match="column 'city' is text"):
        table.numbers(["city"])
    with pytest.raises(TypeError, match="column 'age' is numeric"):
        table.one_hot(["age"])
    with pytest.raises(ValueError, match="same length"):
        Table({"a": [1, 2], "b": [1]})


@pytest.mark.slow
def test_titanic(data_root):
    columns = ["Pclass", "Sex", "Age", "SibSp", "Parch", "Fare", "Embarked"]
    path = data_root / "titanic.csv"
    missing = {"Age": "median", "Embarked": "drop"}
    table = read_csv(path, "Survived", columns=columns, dtypes={"Pclass": str}, missing=missing)
    assert len(table) == 889
    assert int(table.target().sum()) == 340
    assert tuple(table.features().shape) == (889, 4 + 3 + 2 + 3)
    with pytest.raises(DataFileError, match=r"line 2, column 'Ticket': the cell 'A/5 21171'"):
        read_csv(path, "Survived", missing="drop")


@pytest.mark.slow
def test_automobile(data_root):
    table = read_csv(
        data_root / "automobile.csv",
        "price",
        missing={"price": "drop"}
        | dict.fromkeys(["normalized-losses", "bore", "stroke", "horsepower", "peak-rpm"], "mean")
        | {"num-of-doors": "most_frequent"},
    )
    assert len(table) == 201
    assert bool(np.isfinite(table.features().numpy()).all())
